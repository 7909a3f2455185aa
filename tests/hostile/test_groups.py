"""README.md names every group once, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
GROUPS = range(1, 65)
ROW = re.compile(r"^\| *(\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
PLACE = re.compile(r"`([^`:]+\.py)(?:::(\w+))?`")


def rows() -> list[tuple[int, list[tuple[str, str]]]]:
    text = (HERE / "README.md").read_text()
    return [(int(number), PLACE.findall(where)) for number, _, where in ROW.findall(text)]


def test_every_group_has_its_line() -> None:
    assert [group for group, _ in rows()] == list(GROUPS)


def test_every_line_names_tests_that_are_there() -> None:
    for group, places in rows():
        assert places, group
        for name, test in places:
            text = (HERE / name).read_text()
            if test:
                assert f"def {test}(" in text, (group, name, test)
            else:
                assert re.search(rf"\(\s*{group},\s*\"", text), (group, name)


def test_every_case_is_in_the_line_of_its_group() -> None:
    named = {(group, name) for group, places in rows() for name, _ in places}
    for path in HERE.glob("test_*.py"):
        for number in re.findall(r"\(\s*(\d+),\s*\"[a-zA-Z0-9]", path.read_text()):
            assert (int(number), path.name) in named, (number, path.name)
