"""A disk that fails while a checkpoint archive is made: told in one line, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.release_inputs import ROOT

MIB = 1 << 20
SCRIPT = """
import sys
from pathlib import Path
from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.errors import BundleError

out, real = Path(sys.argv[1]), Path(sys.argv[2])
try:
    write_checkpoint(out, name="a", root="a", mtime=1, sources=[SourceFile("weights", real)])
except BundleError as error:
    print(type(error).__name__, error)
"""


WRITES = "pwritev,pwritev2,pwrite64"


@pytest.mark.parametrize(
    ("calls", "inject", "told"),
    [
        ("read", "error=EIO:when=2", "weights: input/output error"),
        (WRITES, "error=EIO:when=2", "a.tar: input/output error"),
        (WRITES, "error=ENOSPC:when=2+", "a.tar: no space left on its file system"),
        (WRITES, "error=EDQUOT:when=1+", "a.tar: no space left in the disk quota"),
        ("fsync", "error=EIO:when=1", "a.tar: input/output error"),
        ("rename", "error=EIO:when=1", "a.tar: input/output error"),
    ],
)
def test_an_error_of_the_disk_is_one_line_and_leaves_nothing(
    calls: str, inject: str, told: str, need: Callable[[str], str], tmp_path: Path
) -> None:
    real, out = tmp_path / "weights", tmp_path / "out"
    real.write_bytes(os.urandom(20 * MIB))
    out.mkdir()
    strace = [need("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
    strace += ["-e", f"inject={calls}:{inject}"]
    if calls == "read":
        strace += ["-P", str(real)]  # Python reads its own modules with the same call
    done = subprocess.run(
        [*strace, sys.executable, "-c", SCRIPT, str(out / "a.tar"), str(real)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in done.stdout, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert list(out.iterdir()) == []
