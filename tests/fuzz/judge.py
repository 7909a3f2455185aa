"""What every parser must do with any bytes: take them, or refuse them as it promised, soon."""

from __future__ import annotations

import time
from pathlib import Path

from bundler.errors import BundleError, printable
from tests.fuzz.parsers import Parser

SECONDS, MEMORY_BYTES = 1.0, 256 << 20


def judge(parser: Parser, content: bytes) -> None:
    """Give a parser an input.

    Raises:
        AssertionError: It took too long, or too much memory, or its error could move a cursor.
        Exception: It raised something that it does not promise.
    """
    begun, before = time.process_time(), _peak_bytes()
    said = ""
    try:
        parser.read(content)
    except BundleError as error:
        if not isinstance(error, parser.refuses):
            raise
        said = str(error)
    except parser.refuses:
        pass  # a ValueError, which whoever catches it makes printable
    seconds, more = time.process_time() - begun, _peak_bytes() - before
    assert printable(said) == said, f"not one printable line: {said!r}"
    assert more < MEMORY_BYTES, f"{len(content)} bytes took {more >> 20} MiB"
    assert seconds < SECONDS, f"{len(content)} bytes took {seconds:.1f} s"


def _peak_bytes() -> int:
    """Give the most memory that this program had; getrusage counts what started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
