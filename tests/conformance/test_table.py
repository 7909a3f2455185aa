"""README.md names each case once, what it names is there, and no case that we carry is missing."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance import test_sigstore as sigstore
from tests.conformance import test_tuf as tuf
from tests.unit import test_sigstore_bundle as bundles
from tests.unit import test_trust as trust

HERE = Path(__file__).parent
TEXT = (HERE / "README.md").read_text()
ROW = re.compile(r"^\| (`[^|]+`|its tests of signing) \| ([^|]+) \|$", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
PLACE = re.compile(r"`([^`:]+\.py)(?:::(\w+))?`")


def cases() -> list[str]:
    return [name for names, _ in ROW.findall(TEXT) for name in NAME.findall(names)]


def test_each_case_has_its_line() -> None:
    found = cases()
    assert len(found) == len(set(found)) > 90
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    assert len(rows) == len(ROW.findall(TEXT)) + 2 * 4  # four tables with two lines of heading


def test_every_place_is_there() -> None:
    places = PLACE.findall(TEXT)
    assert len(places) > 40
    for name, test in places:
        text = (HERE / name).read_text()
        assert not test or f"def {test}(" in text, (name, test)


def test_every_case_that_we_carry_is_in_the_table() -> None:
    carried = {
        *(f"test_root_rotation[{case}]" for case in trust.ROTATIONS),
        *(f"test_non_root_rotations[{case}]" for case in tuf.NON_ROOT_ROTATIONS),
        *bundles.CASES,
        *sigstore.CASES,
    }
    assert carried <= set(cases())
