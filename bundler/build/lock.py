"""Locks: made from a spec by looking at its sources, or from a release that was just built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.archive.room import require_room
from bundler.archive.scratch import scratch_directory
from bundler.build.cache import BuildCache, locked_files
from bundler.build.chart import chart_digest, preset_chart
from bundler.build.checkpoint_lock import lock_checkpoint
from bundler.build.images import PinnedImage, fetch_layout, pin_images, tell_converted
from bundler.build.protocols import ImageSource
from bundler.build.sources import Sources, read_sources
from bundler.build.third_party import FoundChart, find_charts, locked_charts, with_found_images
from bundler.charts.rendering import ChartRenderer
from bundler.events import Emit, Finished, Started, ignore
from bundler.lock_images import LockedImage
from bundler.lockfile import Lock, LockedChart, LockedCheckpoint
from bundler.manifest import Manifest
from bundler.spec import Spec
from bundler.stores.artifacts import OpenArtifacts, open_artifacts


def lock_release(
    spec_path: Path,
    spec: Spec,
    *,
    images: ImageSource,
    charts: ChartRenderer,
    artifacts: OpenArtifacts = open_artifacts,
    scratch: Path | None = None,
    cache: BuildCache | None = None,
    emit: Emit = ignore,
) -> Lock:
    """Pin every source of a spec to its digest; writes nothing but scratch files.

    An image that is OCI already is only looked up. A Docker-typed one is fetched and converted,
    since nobody knows its digest in OCI form before.

    Args:
        spec_path: Where the spec lies; its paths are relative to that directory.
        spec: What it says.
        images: Where images come from.
        charts: What renders charts of others.
        artifacts: Opens a repository to look for what is attached to an image.
        scratch: A directory for images that are converted; None for the system's.
        cache: What earlier builds and locks found out; None to find it out anew.
        emit: Told of what is fetched and read.

    Raises:
        MalformedError: A source breaks its rules, or our chart wants an image that the spec lacks.
        CheckError: A chart of others does not render.
        WorldError: A source or a program is missing or fails, or the disk is full.
    """
    images.require()
    base = spec_path.parent
    sources = read_sources(spec, base, None, emit)
    _require_images(spec, sources)
    found = _find_charts(spec, base, sources, charts, scratch, emit)
    full = with_found_images(spec, found)
    pinned = pin_images(full, base, None, images, artifacts=artifacts, emit=emit)
    locked = tuple(_locked_image(image, images, scratch, emit) for image in pinned)
    return Lock(
        images=locked,
        charts=locked_charts(found, locked),
        chart=LockedChart(path=spec.chart.path, digest=chart_digest(sources.chart)),
        scripts=sources.locked_scripts,
        checkpoints=tuple(lock_checkpoint(item, cache, emit) for item in sources.checkpoints),
    )


def lock_of(
    manifest: Manifest,
    spec: Spec,
    sources: Sources,
    pinned: Sequence[PinnedImage],
    found: Sequence[FoundChart],
) -> Lock:
    """Give the lock from which a release that was just built could have been built."""
    digests = {image.tag: image.digest for image in manifest.images}
    locked = tuple(image.locked(digests[image.spec.tag]) for image in pinned)
    return Lock(
        images=locked,
        charts=locked_charts(found, locked),
        chart=LockedChart(path=spec.chart.path, digest=chart_digest(sources.chart)),
        scripts=sources.locked_scripts,
        checkpoints=tuple(
            LockedCheckpoint(
                name=item.name,
                files=locked_files(item),
                archive=item.digest if source.archive else None,
            )
            for item, source in zip(manifest.checkpoints, sources.checkpoints, strict=True)
        ),
    )


def _require_images(spec: Spec, sources: Sources) -> None:
    """Refuse what a build would: a lock of it would be stale when it is mended."""
    preset_chart(
        sources.chart,
        version=spec.chart.version,
        app_version=spec.release.version,
        images=[image.tag for image in spec.images],
        name=sources.chart_name,
    )


def _find_charts(
    spec: Spec,
    base: Path,
    sources: Sources,
    charts: ChartRenderer,
    scratch: Path | None,
    emit: Emit,
) -> tuple[FoundChart, ...]:
    if not spec.charts:
        return ()
    charts.require()
    with scratch_directory(scratch) as directory:
        return find_charts(
            spec,
            base,
            None,
            own_name=sources.chart_name,
            charts=charts,
            scratch=directory,
            emit=emit,
        )


def _locked_image(
    image: PinnedImage, images: ImageSource, scratch: Path | None, emit: Emit
) -> LockedImage:
    digest = image.digest
    if digest is None:
        emit(Started("convert", str(image.spec.tag)))
        with scratch_directory(scratch) as directory:
            require_room(directory, image.unpacked_bytes, hint="free space there, or set TMPDIR")
            layout = directory / "layout"
            digest = fetch_layout(image, images, layout).digest
        tell_converted(image, digest, emit)
        emit(Finished(str(image.spec.tag)))
    return image.locked(digest)
