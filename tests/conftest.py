"""What every suite may use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rehearsal.fixtures import registry, s3, s3_bucket, site

_CACHE = Path.home() / ".cache"
__all__ = ["registry", "s3", "s3_bucket", "site"]

REQUIRE_TOOLS = "BUNDLE_REQUIRE_TOOLS"


# helm, kubectl, aws and the rest lie beside the Python that runs the tests.
os.environ["PATH"] = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"


def missing(what: str) -> None:
    """Skip on a laptop; fail where everything was installed on purpose."""
    if os.environ.get(REQUIRE_TOOLS) == "1":
        pytest.fail(f"{what} is missing, and {REQUIRE_TOOLS}=1 says that it must be here")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Give a program's path, or skip (fail in CI) where it is missing."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing(program)
        assert path is not None
        return path

    return find


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests away from the user's credentials, configuration and home."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "KUBE", "REGISTRY_AUTH", "DOCKER_", "SSL_CERT")):
            monkeypatch.delenv(name)
    # Kubernetes' binaries and base images are compiled once, and live in the user's cache.
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(_CACHE))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
