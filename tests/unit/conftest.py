"""What unit tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import missing

# How long an example takes says more about the machine than about the code.
settings.register_profile("bundle", deadline=None)
settings.load_profile("bundle")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a real file system of 4 MiB."""
    if os.geteuid() != 0:
        missing("root, to mount a small file system")
    point = tmp_path / "small-disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", point], check=True)
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)
