"""What all hostile cases share: a place with sentinels, and a good release to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.limited import Place
from tests.hostile.releases import good_release


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a new place."""
    return Place(tmp_path / "place")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a signed release that no test changes."""
    return good_release(tmp_path_factory.mktemp("good") / "release")
