from __future__ import annotations

import inspect
import re

import pytest

from bundler import errors
from bundler.errors import BundleError, ToolFailedError, ToolNotFoundError, printable

LINE = re.compile(r"^    ((?:[| ]  )*)(?:[|`]- )?(\w+Error) +(\d+)", re.MULTILINE)


def drawn() -> dict[str, tuple[str | None, int]]:
    """Read parent and exit status of each class off the drawing in the module."""
    found: dict[str, tuple[str | None, int]] = {}
    ancestors: list[str] = []
    for line in LINE.finditer(errors.__doc__ or ""):
        branch = line[0].split(line[2])[0]
        depth = (len(branch) - 4) // 3
        ancestors[depth:] = [line[2]]
        found[line[2]] = (ancestors[depth - 1] if depth else None, int(line[3]))
    return found


def real() -> dict[str, tuple[str | None, int]]:
    classes = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, BundleError)
    ]
    return {
        kind.__name__: (
            None if kind is BundleError else kind.__mro__[1].__name__,
            kind.exit_status,
        )
        for kind in classes
    }


def test_the_drawing_in_the_module_is_the_hierarchy() -> None:
    assert len(drawn()) == 15
    assert drawn() == real()


def test_each_exit_status_but_the_worlds_belongs_to_one_class() -> None:
    statuses = [status for _, status in drawn().values()]
    assert sorted(set(statuses)) == [1, 3, 4, 5, 6, 7, 8, 9]
    assert all(statuses.count(status) == 1 for status in range(1, 9) if status != 2)
    assert errors.CHANGES_PENDING not in statuses


def test_an_error_carries_its_hint() -> None:
    assert BundleError("x").hint is None
    assert BundleError("x", hint="do y").hint == "do y"
    assert ToolNotFoundError("helm").hint == "install helm, or put it on the PATH"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 😀", "plain é 😀"),
        ("a\nb\tc\rd", "a\\u000ab\\u0009c\\u000dd"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\u00a0space\u2028line", "zero\\u200bwidth\\u00a0space\\u2028line"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_from_outside_cannot_move_hide_or_reorder(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_failed_program_is_one_line_and_keeps_the_rest() -> None:
    stderr = "".join(f"line {n}\n" for n in range(20)) + "\x1b[31mred\n"
    error = ToolFailedError(["skopeo", "copy", "a b"], 2, stderr)
    assert str(error).startswith("skopeo ended with status 2: line 13; ")
    assert str(error).endswith("line 19; \\u001b[31mred")
    assert "\n" not in str(error)
    assert (error.command, error.status, error.stderr) == ("skopeo copy 'a b'", 2, stderr)
    assert "(no message)" in str(ToolFailedError(["x"], 1, "\n"))
