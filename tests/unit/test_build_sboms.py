"""SBOMs are made while a build goes on, and end with it."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.archive.bundle import Entry
from bundler.build import sboms as build_sboms
from bundler.build.records import Records
from bundler.build.sboms import SbomMaker
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError
from bundler.events import Advanced, Event, Finished, Started, ignore
from bundler.inventory import effort, record
from bundler.manifest import Chart, Image, Release
from bundler.reference import ImageTag
from tests.layouts import LAYER, LayoutMaker, pack, plain_layer
from tests.unit.threads import no_thread_left

RELEASE = Release(name="demo", version="1", sequence=1, created="2026-11-01T00:00:00Z")
CHART = Chart(name="inference", version="1", path="charts/inference", digest=Digest.of(b""))
NAMES = ("atlas", "borea", "cirrus")
Packed = tuple[Image, Path]
Maker = Callable[[bytes], Packed]


@pytest.fixture
def packed(tmp_path: Path) -> Maker:
    def make(layer: bytes) -> Packed:
        maker = LayoutMaker(tmp_path / "layout")
        top = maker.manifest([maker.blob(layer, LAYER)])
        archive = tmp_path / "image.tar"
        return pack(maker, ImageTag("atlas", "1"), top, archive, mtime=1_793_491_200), archive

    return make


def test_every_image_that_runs_and_the_bundle_get_an_sbom(packed: Maker) -> None:
    events: list[Event] = []
    layer = gzip.compress(plain_layer({"a.egg-info": b"Name: a\nVersion: 1\n"}))
    image = packed(layer)
    with SbomMaker(RELEASE, [image], None, events.append) as sboms:
        entries = sboms.entries([CHART], [Entry("scripts/x.sh", b"#!/bin/sh\n")], [])
    assert [entry.path for entry in entries] == ["sbom/bundle.cdx.json", "sbom/atlas__1.cdx.json"]
    assert b"pkg:pypi/a@1" in bytes(entries[1].content)
    assert b"scripts/x.sh" in bytes(entries[0].content)
    assert events == [
        Started("list packages of", "atlas:1", len(layer)),
        Advanced("atlas:1", len(layer)),
        Finished("atlas:1"),
    ]


def test_what_is_attached_to_an_image_is_not_looked_into(packed: Maker, tmp_path: Path) -> None:
    image, archive = packed(gzip.compress(plain_layer({})))
    maker = LayoutMaker(tmp_path / "signature")
    payload = maker.blob(b"no layer", "application/vnd.dev.cosign.simplesigning.v1+json")
    top = maker.manifest([payload], maker.blob(b"{}", "application/vnd.oci.empty.v1+json"))
    tag = ImageTag("atlas", "sha256-0.sig")
    about = pack(maker, tag, top, tmp_path / "a.tar", mtime=1_793_491_200, subject=image.digest)
    with SbomMaker(RELEASE, [(image, archive), (about, tmp_path / "a.tar")], None, ignore) as sboms:
        assert len(sboms.entries([CHART], [], [])) == 2


@pytest.fixture
def three(tmp_path: Path) -> list[Packed]:
    """Give three images, each with a package of its own."""
    found = []
    for name in NAMES:
        maker = LayoutMaker(tmp_path / name)
        text = f"Name: {name}\nVersion: 1\n".encode()
        top = maker.manifest([maker.blob(gzip.compress(plain_layer({"a.egg-info": text})), LAYER)])
        archive = tmp_path / f"{name}.tar"
        found.append((pack(maker, ImageTag(name, "1"), top, archive, mtime=1_793_491_200), archive))
    return found


@pytest.mark.parametrize("cached", [False, True])
def test_images_behind_those_that_took_all_of_a_build_are_told(
    cached: bool, three: list[Packed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, whichever is done first: the same release has the same bytes at any time."""
    records = Records(tmp_path / "cache", ignore)
    with SbomMaker(RELEASE, three, records, ignore) as sboms:
        assert b"pkg:pypi/cirrus@1" in bytes(sboms.entries([CHART], [], [])[3].content)
    monkeypatch.setitem(effort.LIMITS, effort.LISTED, 1)
    monkeypatch.setattr(build_sboms, "BUILD_FACTOR", 1)
    for _ in range(3):
        with SbomMaker(RELEASE, three, records if cached else None, ignore) as sboms:
            found = [bytes(one.content) for one in sboms.entries([CHART], [], [])[1:]]
        assert [f"pkg:pypi/{n}@1".encode() in found[at] for at, n in enumerate(NAMES)] == [
            True,
            True,
            False,
        ]
        assert b"this image: more than 1 packages listed in the images before it" in found[2]


def test_an_image_is_not_opened_when_those_before_it_took_all(
    three: list[Packed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(effort.LIMITS, effort.LISTED, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    events: list[Event] = []
    with SbomMaker(RELEASE, three, None, events.append) as sboms:
        sboms.entries([CHART], [], [])
    assert [one.item for one in events if isinstance(one, Started)] == ["atlas:1"]


def test_nothing_is_read_on_when_the_build_has_failed(packed: Maker) -> None:
    head = tarfile.TarInfo("zeros")
    head.size = 1 << 30
    image = packed(gzip.compress(head.tobuf()) + gzip.compress(bytes(1 << 20)) * 1024)
    events: list[Event] = []
    with (
        no_thread_left(),
        pytest.raises(ContentError),
        SbomMaker(RELEASE, [image], None, events.append),
    ):
        raise ContentError("a checkpoint is not the locked one")
    # Reading all of it takes some seconds.
    assert not any(isinstance(event, Advanced | Finished) for event in events)


def test_an_archive_that_cannot_be_read_ends_the_build(packed: Maker) -> None:
    image, archive = packed(gzip.compress(plain_layer({})))
    archive.write_bytes(archive.read_bytes()[:2000])
    with (
        SbomMaker(RELEASE, [(image, archive)], None, ignore) as sboms,
        pytest.raises(MalformedError, match="ends at 2000"),
    ):
        sboms.entries([CHART], [], [])


def test_an_image_that_was_looked_into_is_not_read_again(packed: Maker, tmp_path: Path) -> None:
    files = {
        "a.egg-info": b"Name: a\nVersion: 1\nLicense: MIT\n",
        "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
        "var/lib/rpm/Packages": b"",
        "\udcff/b-1.egg-info": b"Name: b\nVersion: 1\n",
    }
    image, archive = packed(gzip.compress(plain_layer(files)))
    records = Records(tmp_path / "cache", ignore)
    with SbomMaker(RELEASE, [(image, archive)], records, ignore) as sboms:
        first = sboms.entries([CHART], [], [])
    assert b"\\udcff/b-1.egg-info" in bytes(first[1].content)
    archive.unlink()
    events: list[Event] = []
    with SbomMaker(RELEASE, [(image, archive)], records, events.append) as sboms:
        assert sboms.entries([CHART], [], []) == first
    taken = Started("take over packages of", "atlas:1")
    assert events == [taken, Finished("atlas:1", skipped=True)]


def test_a_record_of_other_code_or_with_other_content_is_not_used(
    packed: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = packed(gzip.compress(plain_layer({"a.egg-info": b"Name: a\nVersion: 1\n"})))
    events: list[Event] = []
    records = Records(tmp_path / "cache", events.append)

    def entries() -> list[Entry]:
        with SbomMaker(RELEASE, [image], records, ignore) as sboms:
            return sboms.entries([CHART], [], [])

    first = entries()
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"name"', b'"nome"'))
    assert entries() == first
    assert "cache: " in str(events)
    monkeypatch.setattr(record, "_own_digest", lambda: Digest.of(b"other code"))
    assert record.inventory_key(image[0]) != path.stem
