"""A release made from its spec."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle import write_bundle
from bundler.archive.checkpoint import write_checkpoint
from bundler.archive.files import atomic_write_bytes
from bundler.build.chart import chart_digest, check_closure, preset_chart
from bundler.build.checkpoint import CheckpointSource
from bundler.build.contents import bundle_entries
from bundler.build.images import PinnedImage, fetch_images, pin_images, scratch_bytes
from bundler.build.lock import lock_of
from bundler.build.proof import prove_release
from bundler.build.protocols import ImageSource
from bundler.build.sources import Sources, read_sources
from bundler.build.staging import Staging, check_space, staging
from bundler.build.third_party import (
    FoundChart,
    check_closures,
    find_charts,
    with_found_images,
)
from bundler.charts.rendering import ChartRenderer
from bundler.digest import Digest
from bundler.errors import ContentError, DeniedError, printable
from bundler.events import Emit, ignore
from bundler.lockfile import Lock, check_lock, lock_path, write_lock
from bundler.manifest import MANIFEST_NAME, Chart, Checkpoint, Image, Manifest
from bundler.manifest_codec import encode_manifest
from bundler.spec import Spec
from bundler.stores.artifacts import OpenArtifacts, open_artifacts
from bundler.sums import SUMS_NAME, write_sums

# Of the guide, chart, scripts, manifest and sums, and of the archives' own headers.
_SMALL_FILES_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRelease:
    """A release that was built: its directory, what it holds, what it was built from."""

    directory: Path
    manifest: Manifest
    lock: Lock


def build_release(
    spec_path: Path,
    spec: Spec,
    lock: Lock | None,
    out_dir: Path,
    *,
    images: ImageSource,
    charts: ChartRenderer,
    artifacts: OpenArtifacts = open_artifacts,
    lock_file: Path | None = None,
    emit: Emit = ignore,
) -> BuiltRelease:
    """Make a release directory, whole or not at all.

    The same spec and lock give the same bytes, at any time and in any directory.

    Args:
        spec_path: Where the spec lies; its paths are relative to that directory.
        spec: What it says.
        lock: What every source must be; None to take what is there, and to write that down.
        out_dir: Where the release's directory goes; made if it is not there.
        images: Where images come from.
        charts: What renders charts.
        artifacts: Opens a repository to look for, and fetch, what is attached to an image.
        lock_file: Where the lock lies, or goes when it is written; None for beside the spec.
        emit: Told of every image, archive, and of what people should know.

    Raises:
        ConflictError: The release's directory is there already.
        MalformedError: The lock is of another spec, or a source breaks its rules.
        ContentError: A source is not what the lock says.
        CheckError: A chart does not render, or names an image that is not in the release.
        WorldError: A source or a program is missing or fails, or the disk is full.
    """
    lock_file = lock_file or lock_path(spec_path)
    if lock is None:
        _require_writable(lock_file)
    else:
        check_lock(lock, spec, name=str(lock_file))
    images.require()
    charts.require()
    with staging(out_dir, spec.release.directory) as place:
        base = spec_path.parent
        sources = read_sources(spec, base, lock, emit)
        found = find_charts(
            spec,
            base,
            lock,
            own_name=sources.chart_name,
            charts=charts,
            scratch=place.scratch,
            emit=emit,
        )
        full = with_found_images(spec, found)
        pinned = pin_images(full, base, lock, images, artifacts=artifacts, emit=emit)
        check_space(out_dir, _needed(pinned, sources))
        chart_files = _chart_files(spec, sources, charts, place.scratch)
        fetched = list(
            fetch_images(
                pinned,
                images,
                scratch=place.scratch,
                mtime=spec.mtime,
                artifacts=artifacts,
                emit=emit,
            )
        )
        check_closures(found, [image for image, _ in fetched])
        manifest = _write_archives(place, spec, lock, sources, chart_files, found, fetched, emit)
        _write_sums(place.release, manifest)
        prove_release(place.release)
    built = lock or lock_of(manifest, spec, sources, pinned, found)
    if lock is None:
        write_lock(lock_file, built)
    return BuiltRelease(directory=out_dir / spec.release.directory, manifest=manifest, lock=built)


def _needed(pinned: tuple[PinnedImage, ...], sources: Sources) -> int:
    """Give the bytes of disk that a build takes: every image as an archive and in the bundle."""
    bundled = sum(image.bundle_bytes for image in pinned)
    checkpoints = sum(checkpoint.archive_bytes for checkpoint in sources.checkpoints)
    return scratch_bytes(pinned) + bundled + checkpoints + _SMALL_FILES_BYTES


def _chart_files(
    spec: Spec, sources: Sources, charts: ChartRenderer, scratch: Path
) -> dict[str, bytes]:
    """Give the chart as it goes into the bundle, proven to name images of the release only."""
    tags, name = [image.tag for image in spec.images], sources.chart_name
    preset = preset_chart(
        sources.chart,
        version=spec.chart.version,
        app_version=spec.release.version,
        images=tags,
        name=name,
    )
    check_closure(preset, images=tags, charts=charts, scratch=scratch, name=name)
    return preset


def _require_writable(lock_file: Path) -> None:
    if not os.access(lock_file.parent, os.W_OK | os.X_OK):
        raise DeniedError(
            f"{printable(str(lock_file))}: expected to write the lock there, permission denied",
            hint="give another place with --lock",
        )


def _write_checkpoint(
    place: Staging, source: CheckpointSource, lock: Lock | None, *, mtime: int, emit: Emit
) -> Checkpoint:
    name = source.spec.name
    try:
        return write_checkpoint(
            place.release / f"{name}.tar",
            name=name,
            root=source.spec.root,
            sources=source.files,
            mtime=mtime,
            expected=lock.checkpoint(name).expected if lock else None,
            emit=emit,
        )
    except ContentError as error:
        raise ContentError(f"checkpoint {name}: {error}", hint=error.hint) from error


def _write_archives(
    place: Staging,
    spec: Spec,
    lock: Lock | None,
    sources: Sources,
    chart_files: dict[str, bytes],
    third_party: Sequence[FoundChart],
    fetched: Sequence[tuple[Image, Path]],
    emit: Emit,
) -> Manifest:
    checkpoints = tuple(
        _write_checkpoint(place, item, lock, mtime=spec.mtime, emit=emit)
        for item in sources.checkpoints
    )
    chart = Chart(
        name=sources.chart_name,
        version=spec.chart.version,
        path=f"charts/{sources.chart_name}",
        digest=chart_digest(chart_files),
    )
    bundle = write_bundle(
        place.release / f"{spec.release.directory}.tar.gz",
        root=spec.release.directory,
        entries=bundle_entries(
            release=spec.release,
            images=fetched,
            scripts=sources.scripts,
            chart=chart,
            chart_files=chart_files,
            third_party=third_party,
            checkpoints=checkpoints,
            models=spec.models,
        ),
        mtime=spec.mtime,
        emit=emit,
    )
    return Manifest(
        release=spec.release,
        bundle=bundle,
        images=tuple(image for image, _ in fetched),
        charts=(chart, *(found.chart for found in third_party)),
        checkpoints=checkpoints,
        models=spec.models,
    )


def _write_sums(directory: Path, manifest: Manifest) -> None:
    content = encode_manifest(manifest)
    atomic_write_bytes(directory / MANIFEST_NAME, content)
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    sums[MANIFEST_NAME] = Digest.of(content)
    atomic_write_bytes(directory / SUMS_NAME, write_sums(sums))
