"""A release made from its spec."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.archive.bundle import write_bundle
from bundler.archive.files import atomic_write_bytes
from bundler.archive.hashing import probe_hashing
from bundler.archive.room import require_room
from bundler.build.cache import BuildCache
from bundler.build.chart import chart_digest, check_closure, preset_chart
from bundler.build.checkpoint_archives import (
    PreparedArchive,
    make_archive,
    prepare_archive,
    remember_archive,
)
from bundler.build.contents import bundle_entries
from bundler.build.estimate import estimate_build
from bundler.build.images import PinnedImage, fetch_images, pin_images
from bundler.build.lock import lock_of
from bundler.build.proof import prove_release
from bundler.build.protocols import ImageSource
from bundler.build.sources import Sources, read_sources
from bundler.build.staging import Staging, staging
from bundler.build.third_party import (
    FoundChart,
    check_closures,
    find_charts,
    with_found_images,
)
from bundler.charts.rendering import ChartRenderer
from bundler.digest import Digest
from bundler.errors import DeniedError, printable
from bundler.events import Emit, Noted, Planned, ignore
from bundler.lockfile import Lock, check_lock, lock_path, write_lock
from bundler.manifest import MANIFEST_NAME, Bundle, Chart, Checkpoint, Image, Manifest
from bundler.manifest_codec import encode_manifest
from bundler.spec import Spec
from bundler.stores.artifacts import OpenArtifacts, open_artifacts
from bundler.sums import SUMS_NAME, write_sums

if TYPE_CHECKING:
    from bundler.build.sboms import SbomMaker

_ROOM_HINT = "free space there, or build somewhere else with --output"


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
    cache: BuildCache | None = None,
    with_sboms: bool = True,
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
        cache: What earlier builds found out; None to find it out anew.
        with_sboms: Whether the images are looked into, and the bundle gets SBOMs.
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
    directory = out_dir / spec.release.directory
    with staging(out_dir, directory.name) as place:
        work = _Work(
            spec, spec_path.parent, lock, place, images, charts, artifacts, cache, with_sboms, emit
        )
        found = work.look()
        estimate = estimate_build(found.archives, found.images)
        require_room(out_dir, estimate.room, hint=_ROOM_HINT)
        emit(Noted(estimate.describe(probe_hashing())))
        emit(Planned(estimate.read))
        manifest = work.write(found)
        _write_sums(place.release, manifest)
        prove_release(place.release)
        built = lock or lock_of(manifest, spec, found.sources, found.images, found.charts)
        if lock is None:  # before the release has its name: nobody gets it without its lock
            write_lock(lock_file, built)
    if cache is not None:
        for archive, checkpoint in zip(found.archives, manifest.checkpoints, strict=True):
            remember_archive(archive, checkpoint, directory, cache)
    return BuiltRelease(directory=directory, manifest=manifest, lock=built)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """All that goes into a release: looked at, held to the lock, and nothing of it fetched yet."""

    sources: Sources
    charts: tuple[FoundChart, ...]
    images: tuple[PinnedImage, ...]
    archives: tuple[PreparedArchive, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """One build: what ``build_release`` was asked for, and where it works."""

    spec: Spec
    base: Path
    lock: Lock | None
    place: Staging
    sources: ImageSource
    renderer: ChartRenderer
    artifacts: OpenArtifacts
    cache: BuildCache | None
    with_sboms: bool
    emit: Emit

    def look(self) -> _Found:
        """Read the small sources, look the large ones up, and take over what costs nothing."""
        spec, emit = self.spec, self.emit
        sources = read_sources(spec, self.base, self.lock, emit)
        charts = find_charts(
            spec,
            self.base,
            self.lock,
            own_name=sources.chart_name,
            charts=self.renderer,
            scratch=self.place.scratch,
            emit=emit,
        )
        return _Found(
            sources=sources,
            charts=charts,
            images=pin_images(
                with_found_images(spec, charts),
                self.base,
                self.lock,
                self.sources,
                artifacts=self.artifacts,
                emit=emit,
            ),
            archives=tuple(
                prepare_archive(item, self.place.release, spec.mtime, self.cache, emit)
                for item in sources.checkpoints
            ),
        )

    def write(self, found: _Found) -> Manifest:
        """Fetch the images and write every archive."""
        spec = self.spec
        chart_files = _chart_files(spec, found.sources, self.renderer, self.place.scratch)
        fetched = list(
            fetch_images(
                found.images,
                self.sources,
                scratch=self.place.scratch,
                mtime=spec.mtime,
                artifacts=self.artifacts,
                emit=self.emit,
            )
        )
        images = tuple(image for image, _ in fetched)
        check_closures(found.charts, images)
        chart = Chart(
            name=found.sources.chart_name,
            version=spec.chart.version,
            path=f"charts/{found.sources.chart_name}",
            digest=chart_digest(chart_files),
        )
        with self._sbom_maker(fetched) as sboms:
            checkpoints = tuple(
                make_archive(
                    item,
                    self.lock.checkpoint(item.source.spec.name) if self.lock else None,
                    self.emit,
                )
                for item in found.archives
            )
            bundle = self._write_bundle(found, fetched, chart, chart_files, checkpoints, sboms)
        return Manifest(
            release=spec.release,
            bundle=bundle,
            images=images,
            charts=(chart, *(item.chart for item in found.charts)),
            checkpoints=checkpoints,
            models=spec.models,
        )

    def _sbom_maker(
        self, images: Sequence[tuple[Image, Path]]
    ) -> AbstractContextManager[SbomMaker | None]:
        if not self.with_sboms:
            return nullcontext()
        # Not above: the library of SBOMs takes its time to import, and nothing else needs it.
        from bundler.build.sboms import SbomMaker

        records = self.cache.inventories if self.cache else None
        return SbomMaker(self.spec.release, images, records, self.emit)

    def _write_bundle(
        self,
        found: _Found,
        images: Sequence[tuple[Image, Path]],
        chart: Chart,
        chart_files: Mapping[str, bytes],
        checkpoints: Sequence[Checkpoint],
        sboms: SbomMaker | None,
    ) -> Bundle:
        release = self.spec.release
        entries = bundle_entries(
            release=release,
            images=images,
            scripts=found.sources.scripts,
            chart=chart,
            chart_files=chart_files,
            third_party=found.charts,
            checkpoints=checkpoints,
            models=self.spec.models,
        )
        if sboms is not None:
            charts = (chart, *(item.chart for item in found.charts))
            entries += sboms.entries(charts, entries, checkpoints)
        return write_bundle(
            self.place.release / f"{release.directory}.tar.gz",
            root=release.directory,
            entries=entries,
            mtime=self.spec.mtime,
            emit=self.emit,
        )


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


def _write_sums(directory: Path, manifest: Manifest) -> None:
    content = encode_manifest(manifest)
    atomic_write_bytes(directory / MANIFEST_NAME, content)
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    sums[MANIFEST_NAME] = Digest.of(content)
    atomic_write_bytes(directory / SUMS_NAME, write_sums(sums))
