"""Every input that ever was a finding, and every seed, without a fuzzer; then a little fuzzing."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import MalformedError
from tests.conftest import missing
from tests.fuzz import seeds
from tests.fuzz.judge import judge
from tests.fuzz.parsers import PARSERS, Parser, with_checksums

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
Fuzz = Callable[..., subprocess.CompletedProcess[str]]
CASES = sorted(path.relative_to(_HERE / "cases") for path in _HERE.glob("cases/*/*"))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_a_finding_is_none_any_more(case: Path) -> None:
    judge(PARSERS[case.parent.name], (_HERE / "cases" / case).read_bytes())


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_taken(name: str) -> None:
    parser = PARSERS[name]
    assert parser.seeds
    for seed in parser.seeds:
        assert parser.repair(seed) == seed
        parser.read(seed)


def test_seeds_are_the_same_at_any_time() -> None:
    found = (PARSERS[name].seeds for name in ("message-bundle", "attestation-bundle", "root"))
    assert list(found) == [[seeds.message()], [seeds.attestation()], seeds.roots()]


def test_a_tar_with_a_wrong_checksum_is_repaired() -> None:
    [seed, *_] = PARSERS["tar"].seeds
    changed = seed.replace(b"a/", b"b/")
    with pytest.raises(MalformedError, match="checksum"):
        PARSERS["tar"].read(changed)
    PARSERS["tar"].read(with_checksums(changed))


class TestAFinding:
    def test_is_an_error_that_was_not_promised(self) -> None:
        with pytest.raises(KeyError):
            judge(Parser(dict[bytes, int]().__getitem__, []), b"")

    def test_is_an_error_that_could_move_a_cursor(self) -> None:
        def refuse(content: bytes) -> None:
            raise MalformedError("\x1b[2J")

        with pytest.raises(AssertionError, match="printable"):
            judge(Parser(refuse, []), b"")

    def test_is_what_takes_long(self) -> None:
        def work(content: bytes) -> None:
            end = time.process_time() + 1.05
            while time.process_time() < end:
                pass

        with pytest.raises(AssertionError, match="took 1"):
            judge(Parser(work, []), b"")

    def test_is_what_takes_much_memory(self) -> None:
        code = (
            "from tests.fuzz.judge import judge\nfrom tests.fuzz.parsers import Parser\n"
            "judge(Parser(lambda content: bytearray(b'x') * (500 << 20), []), b'')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False
        )
        assert re.search(r"AssertionError: 0 bytes took \d{3} MiB", done.stderr)


@pytest.fixture
def fuzz() -> Fuzz:
    """Give what runs the fuzzer, after some code of Python."""
    if importlib.util.find_spec("atheris") is None:
        missing("atheris")

    def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
        code = f"{before}\nfrom tests.fuzz.__main__ import main\nmain()"
        argv = [sys.executable, "-c", code, "--seed=1", *arguments]
        return subprocess.run(argv, cwd=_ROOT, capture_output=True, text=True, check=False)

    return run


def test_a_little_fuzzing_finds_nothing(fuzz: Fuzz, tmp_path: Path) -> None:
    done = fuzz("--runs=1000", f"--cases={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(PARSERS)
    assert not list(tmp_path.rglob("*"))


def test_a_finding_is_kept_as_a_case(fuzz: Fuzz, tmp_path: Path) -> None:
    defect = """
from tests.fuzz.parsers import PARSERS, Parser
PARSERS["sums"] = Parser(lambda content: content and {}["a defect on purpose"], [b"ab"])
"""
    done = fuzz("sums", f"--cases={tmp_path}", before=defect)
    assert done.returncode == 1
    assert "a defect on purpose" in done.stderr
    [case] = tmp_path.rglob("*/*")
    content = case.read_bytes()
    assert case.relative_to(tmp_path) == Path("sums", hashlib.sha256(content).hexdigest()[:16])
    assert content
