"""What the tests of signers share: the installed command, and openssl as the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bundler.release import signature_name
from bundler.signing.keys import PublicKey, read_public_key
from bundler.sums import SUMS_NAME
from tests.unit.small_files import write_small_files

BUNDLE = Path(sys.prefix, "bin", "bundle")
Done = subprocess.CompletedProcess[str]
_SECONDS = 120


def new_release(directory: Path) -> Path:
    """Write the two small files that a signer needs, and no archive."""
    return write_small_files(directory)


def bundle(
    *words: str | Path, env: Mapping[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> Done:
    """Run the command with no terminal."""
    return subprocess.run(
        [BUNDLE, *words],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        pass_fds=pass_fds,
    )


def bundle_without(package: str, *words: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """Run the command where a package is not installed."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv[0] = 'bundle';"
        "from bundler.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def told(done: Done) -> tuple[str, str]:
    """Give the one line of an error, and its hint; no library may write any line of its own."""
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: "), done.stderr
    assert len(hints) <= 1, done.stderr
    return error.removeprefix("error: "), "".join(hints).removeprefix("hint: ")


def names_in(directory: Path) -> set[str]:
    """Name what lies in a directory."""
    return {path.name for path in directory.iterdir()}


def assert_openssl_accepts(openssl: str, release: Path, pem: str, scratch: Path) -> PublicKey:
    """Have openssl check the signature that counts, with the very command of the guide."""
    public = scratch / "shown.pub"
    public.write_text(pem)
    key = read_public_key(pem.encode(), name="shown.pub")
    signature = release / signature_name(key.key8)
    argv = [openssl, "dgst", "-sha256", "-verify", str(public), "-signature", str(signature)]
    done = subprocess.run([*argv, release / SUMS_NAME], capture_output=True, check=False)
    assert done.stdout == b"Verified OK\n", done
    return key
