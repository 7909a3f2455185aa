"""Locks: read as they were written, refused when they are of another spec."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import MalformedError, NotFoundError
from bundler.lock_images import LockedAttached, LockedImage
from bundler.lockfile import (
    Lock,
    LockedChart,
    LockedCheckpoint,
    LockedFile,
    check_lock,
    decode_lock,
    encode_lock,
    lock_path,
    read_lock,
    write_lock,
)
from bundler.manifest import Release
from bundler.reference import ImageTag
from bundler.source import FetchOptions, RegistrySource
from bundler.spec import ChartSpec, CheckpointSpec, ImageSpec, Spec

SOME, OTHER = Digest.of(b"some"), Digest.of(b"other")
LOCK = Lock(
    images=(
        LockedImage(
            tag=ImageTag("atlas", "1.2"),
            source="docker://a.example/atlas:1.2",
            platform="linux/amd64",
            source_digest=SOME,
            digest=OTHER,
            attached=(
                LockedAttached(tag=f"sha256-{OTHER.hex}.sig", subject=OTHER, digest=SOME),
                LockedAttached(
                    tag=f"sha256-{OTHER.hex}",
                    subject=OTHER,
                    digest=SOME,
                    manifests=(OTHER, SOME),
                ),
            ),
        ),
    ),
    chart=LockedChart(path="../charts/inference", digest=SOME),
    scripts=(LockedFile(path="../scripts/upload.sh", size=10, digest=SOME),),
    checkpoints=(
        LockedCheckpoint(
            name="tiny_1", files=(LockedFile(path="a/model.safetensors", size=8, digest=OTHER),)
        ),
    ),
)
SPEC = Spec(
    release=Release(name="demo", version="1.0.0", sequence=1, created="2026-11-01T00:00:00Z"),
    images=(
        ImageSpec(tag=ImageTag("atlas", "1.2"), source=RegistrySource("a.example/atlas", "1.2")),
    ),
    chart=ChartSpec(path="../charts/inference", version="1.0.0"),
    scripts=("../scripts/upload.sh",),
    checkpoints=(CheckpointSpec(name="tiny_1", root="tiny_1", source="models/tiny"),),
    models=(),
)

digests = st.binary(min_size=32, max_size=32).map(Digest.of)
names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
locked_files = st.builds(LockedFile, path=names, size=st.integers(0, 2**53 - 1), digest=digests)


@given(
    st.builds(
        Lock,
        images=st.just(LOCK.images),
        chart=st.builds(LockedChart, path=names, digest=digests),
        scripts=st.lists(locked_files, unique_by=lambda file: file.path).map(tuple),
        checkpoints=st.lists(
            st.builds(
                LockedCheckpoint,
                name=names,
                files=st.lists(locked_files, unique_by=lambda file: file.path).map(tuple),
            ),
            unique_by=lambda item: item.name,
        ).map(tuple),
    )
)
def test_a_lock_is_read_as_it_was_written(lock: Lock) -> None:
    assert decode_lock(encode_lock(lock), name="lock") == lock


def test_a_lock_lies_beside_its_spec(tmp_path: Path) -> None:
    path = lock_path(tmp_path / "demo.yaml")
    assert path == tmp_path / "demo.lock.json"
    with pytest.raises(NotFoundError):
        read_lock(path)
    write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"formatVersion": 1', b'"formatVersion": 2', "reads 1 only"),
        (b'"scripts"', b'"skripts"', "unknown field"),
        (b'"size": 8', b'"size": -1', "expected 0 to"),
        (b'"size": 8', b'"size": 8.0', "not an integer"),
        (b'"a/model.safetensors"', b'"../model.safetensors"', "climbs"),
        (b'"../scripts/upload.sh"', b'"/scripts/upload.sh"', "not a path relative"),
        (b'"tiny_1"', b'"tiny__1"', "'__'"),
        (SOME.hex.encode(), b"12", "64 lowercase hex digits"),
        (b'"name": "atlas"', b'"name": "at/las"', "'/'"),
        (b'"platform": "linux/amd64"', b'"platform": null', "written by an earlier version"),
        (b'"subject"', b'"about"', "subject: missing"),
        (b'"tag": "sha256-', b'"tag": "sha256:', "not an image tag"),
        (OTHER.hex.encode() + b'.sig"', OTHER.hex.encode() + b'"', "stands there 2 times"),
    ],
)
def test_a_malformed_lock_is_refused(old: bytes, new: bytes, problem: str) -> None:
    content = encode_lock(LOCK)
    assert old in content
    with pytest.raises(MalformedError, match=re.escape(problem)):
        decode_lock(content.replace(old, new), name="lock")


def test_a_lock_that_names_one_thing_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times"):
        replace(LOCK, scripts=LOCK.scripts * 2)


def test_a_lock_of_its_spec_is_accepted() -> None:
    check_lock(LOCK, SPEC, name="lock")


def test_what_was_left_out_knowingly_is_not_what_was_not_there() -> None:
    image = replace(LOCK.images[0], attached=())
    nothing, left_out = (
        replace(LOCK, images=(replace(image, attached=attached),)) for attached in ((), None)
    )
    for lock in (nothing, left_out):
        assert decode_lock(encode_lock(lock), name="lock") == lock
    check_lock(nothing, SPEC, name="lock")
    with pytest.raises(MalformedError, match="without what is attached"):
        check_lock(left_out, SPEC, name="lock")


def test_a_lock_says_what_a_converted_image_was_and_nothing_of_any_other() -> None:
    image = replace(LOCK.images[0], converted_from=SOME)
    lock = replace(LOCK, images=(image,))
    assert decode_lock(encode_lock(lock), name="lock") == lock
    assert b"convertedFrom" not in encode_lock(LOCK)


def without(spec: Spec) -> list[tuple[Spec, str]]:
    image = spec.images[0]
    moved = replace(image, source=RegistrySource("b.example/atlas", "1.2"))
    added = replace(spec.checkpoints[0], name="tiny_2")
    return [
        (replace(spec, images=()), "image atlas:1.2: spec says nothing"),
        (replace(spec, images=(moved,)), "image atlas:1.2: spec says docker://b.example"),
        (
            replace(spec, images=(replace(image, fetch=FetchOptions(platform=None)),)),
            "spec says docker://a.example/atlas:1.2 for all, "
            "lock says docker://a.example/atlas:1.2 for linux/amd64",
        ),
        (
            replace(spec, images=(replace(image, fetch=FetchOptions(attached=False)),)),
            "for linux/amd64 without what is attached, lock says",
        ),
        (
            replace(spec, images=(replace(image, tag=ImageTag("atlas", "2")),)),
            "image atlas:1.2: spec says nothing",
        ),
        (replace(spec, chart=ChartSpec(path="other", version="1.0.0")), "chart"),
        (replace(spec, scripts=()), "script ../scripts/upload.sh: spec says nothing"),
        (replace(spec, checkpoints=(*spec.checkpoints, added)), "checkpoint tiny_2"),
    ]


@pytest.mark.parametrize(("spec", "problem"), without(SPEC))
def test_a_lock_of_another_spec_is_refused(spec: Spec, problem: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(problem)) as caught:
        check_lock(LOCK, spec, name="lock")
    assert "bundle lock" in (caught.value.hint or "")
