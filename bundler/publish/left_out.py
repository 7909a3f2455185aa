"""What ``--only`` leaves out of a run, as steps of its plan: nothing is asked about them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bundler.manifest import Checkpoint
from bundler.publish.layout import Layout
from bundler.publish.objects import release_files
from bundler.publish.only import Only
from bundler.publish.plan import Kind, State, Step
from bundler.publish.schedule import Cargo
from bundler.release import TrustedRelease
from bundler.target import Target


def left_out(
    only: Only,
    release: TrustedRelease,
    target: Target,
    layout: Layout,
    seen: Layout,
    cargo: Iterable[Cargo],
) -> Iterator[Step]:
    """Name what was not looked at.

    Args:
        only: The parts that were asked for.
        release: The one to publish.
        target: Where it goes.
        layout: All names at the destination.
        seen: The same with those checkpoints alone that were looked at.
        cargo: The images that were looked at.
    """
    looked = {item.image.tag for item in cargo}
    for image in release.manifest.images:
        if image.tag not in looked:
            place = f"{target.registry.host}/{image.tag}"
            yield _step(Kind.IMAGE, str(image.tag), place=place)
    for name in sorted(layout.checkpoints.keys() - seen.checkpoints.keys()):
        yield from _checkpoint(release.manifest.checkpoint(name), layout)
    if not only.uses_store:
        for key in release_files(release, layout):
            yield _step(Kind.RELEASE_FILE, key)
    if not only.chart:
        yield from _cluster(release, target)


def _checkpoint(checkpoint: Checkpoint, layout: Layout) -> Iterator[Step]:
    place = layout.checkpoints[checkpoint.name]
    for file in checkpoint.files:
        yield _step(Kind.CHECKPOINT_FILE, place.key(file.path), group=str(place))
    yield _step(Kind.MARKER, layout.marker(checkpoint))


def _cluster(release: TrustedRelease, target: Target) -> Iterator[Step]:
    kubernetes = target.kubernetes
    yield _step(Kind.NAMESPACE, kubernetes.namespace)
    for secret in filter(None, (target.api_key, target.s3.credentials)):
        yield _step(Kind.CREDENTIAL, secret.name)
    yield _step(Kind.CHART, kubernetes.release)
    yield _step(Kind.PODS, kubernetes.release)
    yield _step(Kind.POINTER, release.manifest.release.directory)


def _step(kind: Kind, name: str, *, group: str = "", place: str = "") -> Step:
    return Step(kind=kind, name=name, state=State.NOT_ASKED, group=group, place=place)
