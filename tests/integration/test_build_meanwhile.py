"""Sources that somebody exchanges after a build has looked at them, and before it copies them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bundler.build import build_release
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, WorldError
from bundler.lockfile import lock_path
from bundler.process import run
from bundler.source import Fetched, Platform, Resolved, Source
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.building import spec_path, tools
from tests.integration.release_inputs import edit_spec, load_spec, write_layout
from tests.integration.test_image_sources import docker_archive

__all__ = ["spec_path", "tools"]


@dataclass(frozen=True)
class Exchanged:
    """Real images, whose sources are exchanged before the first is fetched."""

    exchange: Callable[[], object]
    images: Skopeo = field(default_factory=Skopeo)
    done: list[Source] = field(default_factory=list)

    def require(self) -> None:
        self.images.require()

    def resolve(
        self, source: Source, *, platform: Platform | None = None, plain_http: bool = False
    ) -> Resolved:
        return self.images.resolve(source, platform=platform, plain_http=plain_http)

    def fetch(
        self,
        source: Source,
        layout_dir: Path,
        *,
        taken: Digest | None = None,
        plain_http: bool = False,
    ) -> Fetched:
        if not self.done:
            self.exchange()
        self.done.append(source)
        return self.images.fetch(source, layout_dir, taken=taken, plain_http=plain_http)


def another_layout(layout: Path) -> None:
    shutil.rmtree(layout)
    write_layout(layout, text="something else")


def other_bytes_in_a_layer(layout: Path) -> None:
    """Leave all that names the layer as it is."""
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = blobs / index["manifests"][0]["digest"].partition(":")[2]
    [layer] = json.loads(manifest.read_bytes())["layers"]
    path = blobs / layer["digest"].partition(":")[2]
    content = bytearray(path.read_bytes())
    content[515] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
@pytest.mark.parametrize("exchange", [another_layout, other_bytes_in_a_layer])
def test_an_image_that_changes_after_it_was_looked_at_is_not_built_in(
    spec_path: Path, tmp_path: Path, form: str, exchange: Callable[[Path], None]
) -> None:
    layout = spec_path.parent / "images" / "atlas"

    def pack() -> None:
        subprocess.run(["tar", "-cf", f"{layout}.tar", "-C", layout, "."], check=True)

    def swap() -> None:
        exchange(layout)
        pack()

    pack()
    if form == "oci-archive":
        edit_spec(spec_path, "oci:images/atlas:1.0.0", "oci-archive:images/atlas.tar:1.0.0")
    images = Exchanged(swap)
    with pytest.raises((ContentError, WorldError, MalformedError, NotFoundError)) as caught:
        build_release(
            spec_path, load_spec(spec_path), None, tmp_path / "out", images=images, charts=Helm()
        )
    assert "\n" not in str(caught.value)
    assert images.done
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    assert not lock_path(spec_path).exists()


def test_a_docker_archive_that_changes_between_two_reads_is_not_built_in(
    spec_path: Path, tmp_path: Path
) -> None:
    images = spec_path.parent / "images"
    docker_archive(images / "atlas", images / "atlas.tar")
    write_layout(images / "other", text="something else")
    docker_archive(images / "other", images / "other.tar")
    edit_spec(spec_path, "oci:images/atlas:1.0.0", "docker-archive:images/atlas.tar\n  tag: 1.0.0")

    def swap_before_copy(argv: Sequence[str], **how: Any) -> str:
        if "copy" in argv:
            (images / "other.tar").replace(images / "atlas.tar")
        return run(argv, **how)

    spec, skopeo = load_spec(spec_path), Skopeo(run=swap_before_copy)
    with pytest.raises(ContentError, match=r"atlas\.tar changed while it was read"):
        build_release(spec_path, spec, None, tmp_path / "out", images=skopeo, charts=Helm())
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
