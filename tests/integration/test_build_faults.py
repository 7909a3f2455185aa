"""Builds that the world disturbs: kills, full disks, registries that refuse, tags that move."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.archive.oci import read_layout
from bundler.build import lock_release
from bundler.build.staging import staging
from bundler.errors import (
    BundleError,
    ConflictError,
    ContentError,
    DeniedError,
    NotFoundError,
    WorldError,
)
from bundler.events import Event, Noted, Started
from bundler.lockfile import lock_path
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.conftest import missing
from tests.integration.building import NAME, build, content, refused, sh, spec_path, tools
from tests.integration.release_inputs import ROOT, edit_spec, load_spec, write_layout
from tests.rehearsal.registry import Registry, registry

__all__ = ["spec_path", "tools"]

PARTIAL = f".{NAME}.partial"
SLOW_BUILD = """
import sys, time
from pathlib import Path
from bundler.events import Started
from tests.integration.building import build

def wait(event):
    if isinstance(event, Started) and event.item == sys.argv[3]:
        print("here", flush=True)
        time.sleep(600)

build(Path(sys.argv[1]), Path(sys.argv[2]), emit=wait)
"""


@pytest.fixture
def vendor(need: Callable[[str], str]) -> Iterator[Registry]:
    need("docker-registry")
    with registry() as server:
        yield server


def push(layout: Path, destination: str, how: str) -> None:
    sh(
        f"skopeo copy --quiet --dest-tls-verify=false {how} oci:{layout}:1.0.0"
        f" docker://{destination}",
        layout.parent,
    )


def take_from(vendor: Registry, spec_path: Path) -> str:
    """Let the spec take its first image from a registry, and give that image's address."""
    address = f"{vendor.address}/llm/atlas:1.0.0"
    edit_spec(
        spec_path,
        "source: oci:images/atlas:1.0.0",
        f"source: docker://{address}\n  plainHttp: true",
    )
    return address


@pytest.mark.parametrize("item", ["model-downloader:1.0.0", "three_1.tar", f"{NAME}.tar.gz"])
def test_a_killed_build_leaves_nothing_under_the_final_name(
    item: str, spec_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    argv = [sys.executable, "-c", SLOW_BUILD, str(spec_path), str(out), item]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in out.iterdir()] == [PARTIAL]
    assert not lock_path(spec_path).exists()
    again = build(spec_path, out)
    assert list(out.iterdir()) == [again.directory]
    sh("sha256sum --strict --quiet -c SHA256SUMS", again.directory)


def test_a_terminated_build_cleans_up(spec_path: Path, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Started) and event.item == "three_1.tar":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(spec_path, tmp_path / "out", emit=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    assert not lock_path(spec_path).exists()


@pytest.mark.parametrize(
    ("name", "offset"), [("one_1.tar", 1), ("one_1.tar", 600), ("one_1.tar", -1)]
)
def test_an_archive_that_changes_before_the_end_is_found(
    name: str, offset: int, spec_path: Path, tmp_path: Path
) -> None:
    def flip(event: Event) -> None:
        if isinstance(event, Started) and (event.verb, event.item) == ("write", f"{NAME}.tar.gz"):
            path = tmp_path / "out" / PARTIAL / "release" / name
            content = bytearray(path.read_bytes())
            content[offset] ^= 1
            path.write_bytes(content)

    with pytest.raises(ContentError, match=name):
        build(spec_path, tmp_path / "out", emit=flip)
    assert list((tmp_path / "out").iterdir()) == []
    assert not lock_path(spec_path).exists()


def test_two_builds_of_one_release_do_not_meet(spec_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging(out, NAME) as place:
        (place.release / "mine").write_text("x")
        with pytest.raises(WorldError, match="another build of this release works there"):
            build(spec_path, out)
        assert (place.release / "mine").read_text() == "x"
    assert [path.name for path in out.iterdir()] == [NAME]


def test_something_under_the_final_name_is_left_alone(spec_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / NAME).symlink_to("nowhere")
    with pytest.raises(ConflictError):
        build(spec_path, out)
    assert [path.name for path in out.iterdir()] == [NAME]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of some MiB."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(mib: int) -> Path:
        if os.geteuid() != 0:
            missing("root, for a file system that gets full")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", place], check=True)
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)


def test_too_little_space_is_told_before_anything_is_fetched(
    small_disk: Callable[[int], Path], spec_path: Path
) -> None:
    place = small_disk(8)
    events: list[Event] = []
    with pytest.raises(WorldError, match=r"32\.\d MiB still to come, 8\.0 MiB free"):
        build(spec_path, place, emit=events.append)
    assert not [event for event in events if isinstance(event, Started)]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("item", ["atlas:1.0.0", "one_1.tar", f"{NAME}.tar.gz"])
def test_a_disk_that_gets_full_leaves_nothing(
    item: str, small_disk: Callable[[int], Path], spec_path: Path
) -> None:
    place = small_disk(64)

    def fill(event: Event) -> None:
        if isinstance(event, Started) and event.item == item:
            with (place / "filler").open("wb", buffering=0) as file:
                while free := shutil.disk_usage(place).free:
                    file.write(bytes(min(free, 1 << 20)))

    with pytest.raises(WorldError, match="no space left") as caught:
        build(spec_path, place, emit=fill)
    assert "\n" not in str(caught.value)
    assert "free space there" in (caught.value.hint or "")
    assert [path.name for path in place.iterdir()] == ["filler"]
    assert not lock_path(spec_path).exists()


def test_a_place_for_the_lock_is_checked_first(spec_path: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_path)
    lock = lock_release(spec_path, spec, images=Skopeo(), charts=Helm())
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorldError):
        build(spec_path, tmp_path / "file" / "out", lock)
    gone = spec_path.parent / "gone" / "release.lock.json"
    with pytest.raises(DeniedError, match="expected to write the lock there"):
        build(spec_path, tmp_path / "out", lock_file=gone)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_the_locked_one_is_named_with_its_checkpoint(
    spec_path: Path, tmp_path: Path
) -> None:
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    config = next(spec_path.parent.glob("models/*/config.json"))
    config.write_bytes(config.read_bytes() + b"\n")
    expected = r"checkpoint \S+: config\.json: expected \d+ bytes as locked"
    with pytest.raises(ContentError, match=expected) as caught:
        build(spec_path, tmp_path / "out", lock)
    assert "bundle lock" in str(caught.value.hint)


def test_an_image_that_is_not_at_its_source_is_named(
    vendor: Registry, spec_path: Path, tmp_path: Path
) -> None:
    address = take_from(vendor, spec_path)
    error = refused(spec_path, tmp_path / "out", NotFoundError)
    said = f"image atlas:1.0.0: docker://{address}: expected an image there, found none"
    assert str(error).startswith(said)


def test_a_registry_that_cannot_be_reached_is_named(spec_path: Path, tmp_path: Path) -> None:
    edit_spec(spec_path, "oci:images/atlas:1.0.0", "docker://127.0.0.1:1/atlas:1.0.0")
    error = refused(spec_path, tmp_path / "out", WorldError)
    assert "docker://127.0.0.1:1/atlas:1.0.0: the registry cannot be reached" in str(error)


def test_a_tag_that_moved_does_not_change_a_locked_build(
    vendor: Registry, spec_path: Path, tmp_path: Path
) -> None:
    address = take_from(vendor, spec_path)
    images = spec_path.parent / "images"
    push(images / "atlas", address, "--preserve-digests")
    first = build(spec_path, tmp_path / "first")
    write_layout(images / "moved", text="another image under the same tag")
    push(images / "moved", address, "--preserve-digests")
    again = build(spec_path, tmp_path / "again", first.lock)
    assert content(again.directory) == content(first.directory)


def test_a_tag_that_moves_during_a_build_does_not_mix_images(
    vendor: Registry, spec_path: Path, tmp_path: Path
) -> None:
    address = take_from(vendor, spec_path)
    images = spec_path.parent / "images"
    push(images / "atlas", address, "--preserve-digests")
    write_layout(images / "moved", text="another image under the same tag")

    def move(event: Event) -> None:
        if isinstance(event, Started) and event.item == "atlas:1.0.0":
            push(images / "moved", address, "--preserve-digests")

    built = build(spec_path, tmp_path / "out", emit=move)
    assert built.manifest.images[0].digest == read_layout(images / "atlas").digest


def test_a_docker_typed_image_is_converted_once_and_both_digests_are_kept(
    vendor: Registry, spec_path: Path, tmp_path: Path
) -> None:
    address = take_from(vendor, spec_path)
    push(spec_path.parent / "images" / "atlas", address, "--format=v2s2")
    events: list[Event] = []
    first = build(spec_path, tmp_path / "first", emit=events.append)
    image = first.manifest.images[0]
    assert image.source == f"docker://{address}"
    assert image.digest != image.source_digest
    assert (first.lock.images[0].digest, first.lock.images[0].source_digest) == (
        image.digest,
        image.source_digest,
    )
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert any(str(image.digest) in note and str(image.source_digest) in note for note in notes)
    spec = load_spec(spec_path)
    assert (
        lock_release(spec_path, spec, images=Skopeo(), charts=Helm(), scratch=tmp_path)
        == first.lock
    )
    again = build(spec_path, tmp_path / "again", first.lock)
    assert content(again.directory) == content(first.directory)


@pytest.mark.parametrize(
    ("which", "old", "new", "kind"),
    [
        ("manifest", b": ", b":\t", ContentError),
        ("config", b"amd64", b"arm64", ContentError),
        ("layer", b"this is", b"that is", ContentError),
    ],
)
def test_a_blob_that_rots_at_its_source_is_refused(
    which: str,
    old: bytes,
    new: bytes,
    kind: type[BundleError],
    spec_path: Path,
    tmp_path: Path,
) -> None:
    layout_dir = spec_path.parent / "images" / "atlas"
    digest = str(read_layout(layout_dir).digest)
    blobs = layout_dir / "blobs" / "sha256"
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
    if which == "config":
        digest = manifest["config"]["digest"]
    elif which == "layer":
        digest = manifest["layers"][0]["digest"]
    path = blobs / digest.removeprefix("sha256:")
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert "images/atlas" in str(refused(spec_path, tmp_path / "out", kind))
