"""What stands in a target only because its template has it: found before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundler.document import Document, Path
from bundler.errors import MalformedError

# Hosts that nobody can have (RFC 2606), the account of AWS' own examples, and names of ours.
_PLACEHOLDER = re.compile(
    r"(?:^|[./@])example\.(?:com|net|org)(?![A-Za-z0-9.-])"
    r"|\b111122223333\b|^example-models$|-0123456789abcdef0\b"
)
# Passed on to the chart as it is: whatever stands there is the operator's own.
_FREE = "values"


def require_filled_in(document: Document) -> None:
    """Refuse a target file in which a placeholder of the template was left.

    Raises:
        MalformedError: There are some; the message has a line for each, with its place.
    """
    left = [
        document.located(path, f"{text} is the template's example")
        for path, text in _texts(document.value, ())
        if path[:1] != (_FREE,) and _PLACEHOLDER.search(text)
    ]
    if left:
        raise MalformedError(
            "\n".join(left), hint="write your own, or comment out what you do not need"
        )


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*path, number))
