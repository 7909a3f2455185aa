"""Which of a release's charts is installed: its own, never one of others that it carries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundler.digest import Digest
from bundler.manifest import Manifest
from bundler.manifest_codec import decode_manifest
from tests.small_release import DATA


def manifest() -> Manifest:
    path = DATA / "format-1" / "tiny-inference-2026.11.0" / "MANIFEST.json"
    return decode_manifest(path.read_bytes())


def with_other() -> Manifest:
    """Give a manifest with a chart of others, which any file of the bundle can play."""
    before = manifest()
    file = replace(before.bundle.files[0], path="charts/another-1.0.0.tgz", digest=Digest.of(b"x"))
    files = sorted((*before.bundle.files, file), key=lambda file: file.path.encode())
    other = replace(
        before.charts[0], name="another", version="1.0.0", path=file.path, digest=file.digest
    )
    bundle = replace(before.bundle, files=tuple(files))
    return replace(before, bundle=bundle, charts=(other, *before.charts))


def test_a_chart_of_others_is_not_installed() -> None:
    assert with_other().own_chart.name == "inference"


def test_a_release_without_a_chart_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one that is a directory, got none"):
        replace(with_other(), charts=with_other().charts[:1])
