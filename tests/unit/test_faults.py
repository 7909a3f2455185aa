from __future__ import annotations

import pytest

from bundler.faults import Fault


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            Fault(
                archive="a.tar", path="w", part=3, offset=512, expected="sha256:1", got="sha256:2"
            ),
            "a.tar: w, part 3, from offset 512: expected sha256:1, got sha256:2",
        ),
        (
            Fault(archive="b.tar.gz", part=2, offset=9, expected="x", got="y"),
            "b.tar.gz, slice 2, from offset 9: expected x, got y",
        ),
        (
            Fault(archive="b.tar.gz", path="README.md", expected="x", got="none"),
            "b.tar.gz: README.md: expected x, got none",
        ),
        (
            Fault(archive="b.tar.gz", expected="9 bytes", got="8"),
            "b.tar.gz: expected 9 bytes, got 8",
        ),
    ],
)
def test_a_fault_is_one_line(fault: Fault, line: str) -> None:
    assert str(fault) == line


def test_names_cannot_move_the_cursor_or_break_the_line() -> None:
    line = str(Fault(archive="a\n.tar", path="\x1b[2Jw\u202e", expected="x\r", got="\u2028y"))
    assert line == "a\\u000a.tar: \\u001b[2Jw\\u202e: expected x\\u000d, got \\u2028y"
