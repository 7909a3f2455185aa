"""Fixtures for every suite; ``tests/conftest.py`` imports them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.rehearsal import programs
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.progress import to_stderr
from tests.rehearsal.registry import Registry, program
from tests.rehearsal.registry import registry as start_registry
from tests.rehearsal.rehearsal import Rehearsal, check_machine
from tests.rehearsal.s3 import S3
from tests.rehearsal.s3 import s3 as start_s3
from tests.rehearsal.site import Site

_Found = TypeVar("_Found")


def need(look: Callable[[], _Found]) -> _Found:
    """Give what ``look`` finds; where it misses something, skip, or fail in CI.

    CI sets BUNDLE_REQUIRE_TOOLS=1, so that nothing is skipped there unnoticed.
    """
    try:
        return look()
    except RehearsalError as error:
        required = os.environ.get("BUNDLE_REQUIRE_TOOLS") == "1"
        (pytest.fail if required else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """Give a registry on loopback, by plain HTTP and without a login, shared by all tests."""
    need(lambda: program("debian"))
    with start_registry() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Give an S3 server on loopback, by plain HTTP, shared by all tests."""
    need(lambda: programs.find_in_environment("weed"))
    with start_s3() as server:
        yield server


@pytest.fixture
def s3_bucket(s3: S3) -> str:
    """Give the name of a new, empty bucket on the shared server."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Give a rehearsal that is up, shared by all tests: keep to a namespace of your own in it."""
    need(check_machine)
    with Rehearsal(name=f"tests-{os.getpid()}", progress=to_stderr()) as up:
        yield up
