"""What the tests of the sweeps share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import missing
from tests.faults.jobs import BUCKET, World
from tests.faults.machine import Machine
from tests.rehearsal.s3 import S3


@pytest.fixture(scope="session")
def world(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a place to do harm in, shared by all tests."""
    if os.geteuid() != 0:
        missing("root, to look into other processes")
    if shutil.which("strace") is None:
        missing("strace")
    s3.create_bucket(BUCKET)
    world = World(Machine(), tmp_path_factory.mktemp("faults"), s3)
    with world.opened:
        yield world
