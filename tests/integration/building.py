"""Fixtures and steps that every test of a build shares."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.build import BuiltRelease, build_release
from bundler.errors import BundleError
from bundler.events import Emit, ignore
from bundler.lockfile import Lock, lock_path
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.release_inputs import load_spec, write_inputs

NAME = "test-release-2026.11.0"


@pytest.fixture(autouse=True)
def tools(need: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm comes with the virtual environment."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need("skopeo")
    need("helm")


@pytest.fixture
def spec_path(tmp_path: Path) -> Path:
    return write_inputs(tmp_path / "in")


def build(
    spec_path: Path,
    out: Path,
    lock: Lock | None = None,
    *,
    lock_file: Path | None = None,
    emit: Emit = ignore,
) -> BuiltRelease:
    return build_release(
        spec_path,
        load_spec(spec_path),
        lock,
        out,
        images=Skopeo(),
        charts=Helm(),
        lock_file=lock_file,
        emit=emit,
    )


def refused(
    spec_path: Path, out: Path, kind: type[BundleError], lock: Lock | None = None
) -> BundleError:
    """Build what must not be built, and give the error: one line, and nothing left behind."""
    locked = lock_path(spec_path).exists()
    with pytest.raises(kind) as caught:
        build(spec_path, out, lock)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert not out.exists() or list(out.iterdir()) == []
    assert lock_path(spec_path).exists() == locked
    return caught.value


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def sh(script: str, cwd: Path) -> str:
    done = subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
