"""Files that Go modules carry, fetched by version and held to the sum that go.sum would have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.rehearsal.errors import RehearsalError


def cache() -> Path:
    """Give the directory where what was fetched is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "bundle-rehearsal")


def fetch(module: str, checksum: str, scratch: Path) -> Path:
    """Fetch a module, such as ``example.com/m@v1.0.0``; give the directory of its files.

    Raises:
        RehearsalError: There is no Go here, or the module is not to be had, or is another one.
    """
    settings = {
        "GOMODCACHE": str(scratch / "modules"),
        "GOCACHE": str(scratch / "build"),
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    told = json.loads(run([_go(), "mod", "download", "-json", module], settings))
    if told["Sum"] != checksum:
        raise RehearsalError(f"{module}: expected {checksum}, got {told['Sum']}")
    return Path(told["Dir"])


def run(command: list[str], settings: dict[str, str] | None = None) -> str:
    """Run a program; give what it prints.

    Raises:
        RehearsalError: It is not installed, or failed.
    """
    try:
        done = subprocess.run(
            command, env=os.environ | (settings or {}), capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise RehearsalError(f"{command[0]}: not installed") from None
    except subprocess.CalledProcessError as error:
        told = (error.stderr or error.stdout).strip()
        raise RehearsalError(f"{command[0]}: {told[-500:]}") from None
    return done.stdout


def _go() -> str:
    for go in (shutil.which("go"), "/usr/local/go/bin/go", *cache().glob("go-*/go/bin/go")):
        if go and Path(go).is_file():
            return str(go)
    raise RehearsalError("Go: not installed; run python -m tests.rehearsal build")
