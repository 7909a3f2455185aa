"""Finding out what publishing would do. Reads only: nothing is changed anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bundler.archive.bundle_files import BundleFiles, open_bundle_files
from bundler.archive.checkpoint import check_structure
from bundler.archive.volumes import VolumeSet
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Emit, Noted, ignore
from bundler.publish.chart import RenderedChart, is_pending, plan_chart, render_chart
from bundler.publish.closure import check_closure
from bundler.publish.cluster import Cluster
from bundler.publish.destination import Destination
from bundler.publish.images import load, plan_images
from bundler.publish.layout import Layout, lay_out
from bundler.publish.objects import plan_checkpoint, plan_small_objects
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.pointer import (
    NOTHING_ALLOWED,
    Allowances,
    check_staleness,
    highest_of,
    next_pointer,
    plan_pointer,
    read_pointer,
)
from bundler.publish.repositories import plan_repositories
from bundler.publish.schedule import Cargo
from bundler.publish.scratch import scratch_directory
from bundler.publish.secrets import WantedSecret, plan_namespace, plan_secret
from bundler.publish.waiting import REAL_CLOCK, Clock, look
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.target import Target
from bundler.tools.helm_release import Installed

# A Helm that still works when we look, such as one that outlived a killed publish, is soon done.
_SETTLE_SECONDS, _SETTLE_POLL_SECONDS = 20.0, 1.0


def make_plan(
    release: TrustedRelease,
    target: Target,
    destination: Destination,
    *,
    secrets: Sequence[WantedSecret],
    now: str,
    allowances: Allowances = NOTHING_ALLOWED,
    emit: Emit = ignore,
    clock: Clock = REAL_CLOCK,
) -> Plan:
    """Compare a release with its destination.

    The archives' structure is checked as well; their content is not read.

    Args:
        release: The one to publish.
        target: Where it goes.
        destination: What the target names, opened.
        secrets: What ``read_secrets`` gave.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.
        allowances: What may be stale.
        emit: Told of what people should know.
        clock: Time, for a Helm that is still at work.

    Raises:
        StaleError: The release is expired or older than what was deployed.
        ContentError: An archive's structure differs from what was signed, or an archive is absent
            whose checkpoint is not whole at the destination.
        CheckError: The chart names an image that is not a signed one.
        MalformedError: The target does not fit the release.
    """
    manifest, store, cluster = release.manifest, destination.store, destination.cluster
    layout = lay_out(manifest, target)
    before = read_pointer(store, layout.pointer)
    allowed = check_staleness(manifest, before, allowances, now=now)
    with open_bundle_of(release) as bundle, scratch_directory() as scratch:
        _check_structure(release, bundle, emit)
        images = load(bundle, manifest.images)
        chart = render_chart(release, bundle, target, layout, cluster=cluster, directory=scratch)
    check_closure(chart.objects, manifest, target.registry.host)
    files = list(_checkpoint_steps(release, layout, store, emit))
    _require_archives(release, layout, files)
    digest = Digest.of(release.manifest_bytes)
    after = next_pointer(before, manifest.release, digest)
    return Plan(
        release=manifest.release.directory,
        manifest=digest,
        steps=(
            *_registry_steps(destination, images, target.registry.host),
            *files,
            *plan_small_objects(store, release, layout),
            *_cluster_steps(cluster, target, secrets, chart, clock),
            plan_pointer(before, after, manifest.release.directory),
        ),
        allowances=allowed,
        highest=highest_of(before),
    )


def open_bundle_of(release: TrustedRelease) -> BundleFiles:
    """Open the bundle of a release, the archive or what was extracted; the caller closes it.

    Raises:
        NotFoundError: Neither is there.
        ContentError: It differs from what was signed.
    """
    return open_bundle_files(release.directory, release.manifest.bundle, release.elsewhere)


def _check_structure(release: TrustedRelease, bundle: BundleFiles, emit: Emit) -> None:
    """Check everything but the content of every archive that is there."""
    for path in bundle.check_structure():
        emit(Noted(f"{release.manifest.bundle.root}/{path}: is not signed, and is not used"))
    for checkpoint in release.manifest.checkpoints:
        archive = release.place(checkpoint.archive)
        if archive is not None:
            check_structure(archive, checkpoint)


def _registry_steps(destination: Destination, images: Sequence[Cargo], host: str) -> Iterator[Step]:
    missing = set()
    if destination.repositories is not None:
        names = [item.repository for item in images]
        for step in plan_repositories(destination.repositories, names):
            yield step
            if step.state is not State.PRESENT:
                missing.add(step.name)
    yield from plan_images(destination.registry, images, host, without=missing)


def _checkpoint_steps(
    release: TrustedRelease, layout: Layout, store: ObjectStore, emit: Emit
) -> Iterator[Step]:
    for name, place in layout.checkpoints.items():
        yield from plan_checkpoint(store, release.manifest.checkpoint(name), place, emit)


def _require_archives(release: TrustedRelease, layout: Layout, steps: Sequence[Step]) -> None:
    """Refuse when an archive, or a volume of it, is absent that something is to be sent from."""
    pending = {step.name for step in steps if step.state is State.TO_DO}
    absent = []
    for name, place in layout.checkpoints.items():
        checkpoint = release.manifest.checkpoint(name)
        needed = pending.intersection(place.key(file.path) for file in checkpoint.files)
        lies = release.place(checkpoint.archive) if needed else None
        if needed and lies is None:
            absent.append(f"{checkpoint.archive}: absent, and {place} lacks {len(needed)} objects")
        elif isinstance(lies, VolumeSet):
            absent += map(str, lies.faults)
    if absent:
        raise ContentError(
            "; ".join(absent),
            hint=f"copy what is named into {release.directory}, or name another place: --volumes "
            "DIR; nothing was sent",
        )


def _cluster_steps(
    cluster: Cluster,
    target: Target,
    secrets: Sequence[WantedSecret],
    wanted: RenderedChart,
    clock: Clock,
) -> Iterator[Step]:
    kubernetes = target.kubernetes
    yield plan_namespace(cluster, kubernetes.namespace)
    for secret in secrets:
        yield plan_secret(cluster, secret, kubernetes.namespace)
    chart = plan_chart(_settled(cluster, clock), wanted, kubernetes)
    yield chart
    pods = Step(kind=Kind.PODS, name=kubernetes.release, state=State.TO_DO, detail="to wait for")
    if chart.state is State.PRESENT:
        rollout = look(cluster, wanted.deployments, kubernetes.release)
        if rollout.ready:
            pods = replace(pods, state=State.PRESENT, detail="")
        else:
            pods = replace(pods, detail="to wait for: not all are ready")
    yield pods


def _settled(cluster: Cluster, clock: Clock) -> Installed | None:
    began = clock.now()
    while True:
        installed = cluster.installed()
        if installed is None or not is_pending(installed):
            return installed
        if clock.now() - began > _SETTLE_SECONDS:
            return installed
        clock.sleep(_SETTLE_POLL_SECONDS)
