"""Finding out what publishing would do. Reads only: nothing is changed anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from bundler.archive.checkpoint import check_structure
from bundler.archive.volumes import VolumeSet
from bundler.digest import Digest
from bundler.errors import CheckError, ContentError
from bundler.events import Emit, Noted, ignore
from bundler.publish.chart import RenderedChart, is_pending, plan_chart
from bundler.publish.cluster import Cluster
from bundler.publish.destination import Destination
from bundler.publish.layout import Layout, lay_out
from bundler.publish.left_out import left_out
from bundler.publish.looking import Look
from bundler.publish.objects import plan_small_objects
from bundler.publish.only import EVERYTHING, Only
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.pointer import (
    NOTHING_ALLOWED,
    Allowances,
    Mark,
    check_staleness,
    check_trust_version,
)
from bundler.publish.secrets import WantedSecret, plan_namespace, plan_secret
from bundler.publish.told import plan_receipt
from bundler.publish.waiting import REAL_CLOCK, Clock, look
from bundler.release import TrustedRelease
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
    only: Only = EVERYTHING,
    emit: Emit = ignore,
    clock: Clock = REAL_CLOCK,
) -> Plan:
    """Compare a release, or some parts of it, with its destination.

    The structure of each archive that something is to be sent from is checked as well; its content
    is not read. No other archive is looked at: it may be absent, cut short or damaged.

    Args:
        release: The one to publish.
        target: Where it goes.
        destination: What the target names, opened; so far as ``only`` has a use for it.
        secrets: What ``read_secrets`` gave; of no use without the chart.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.
        allowances: What may be stale.
        only: Which parts. For images alone the bucket is not asked, so nothing is known of the
            sequence that was deployed: whatever installs the chart judges that.
        emit: Told of what people should know.
        clock: Time, for a Helm that is still at work.

    Raises:
        StaleError: The release is expired, from the future or older than what was deployed; or
            it was judged by an older trust file than that.
        ContentError: An archive is absent, lacks volumes or differs in structure from what was
            signed, and its checkpoint is to be sent and not whole at the destination.
        CheckError: The chart names an image that is not a signed one, or is to be installed without
            something that is not there and that ``only`` leaves out.
        MalformedError: The target, or ``only``, does not fit the release.
    """
    layout = lay_out(release.manifest, target)
    asked = _with(layout, only.checkpoints(layout))
    seen = layout if only.chart else asked
    look = Look(release, target, destination, layout, emit)
    check_staleness(release.manifest, Mark(), allowances, now=now)  # before anybody is asked
    before = look.at_deployed(only)
    check_trust_version(release.trust.version, before.trust_mark)
    allowed = check_staleness(release.manifest, before.highest_mark, allowances, now=now)
    cargo, chart = look.into_bundle(only)
    files = look.at_checkpoints(seen)
    _check_archives(release, asked, files, emit)
    steps = [*look.at_registry(cargo), *files]
    _require_the_rest(only, asked, steps)
    if only.uses_store:
        steps += plan_small_objects(destination.store, release, seen)
    if chart is not None:
        steps += _cluster_steps(destination.cluster, target, secrets, chart, clock)
        steps.append(look.at_pointer(before))
    if only.uses_store:
        steps += plan_receipt(destination.store, release, target, layout, steps)
    steps += left_out(only, release, target, layout, seen, cargo)
    return Plan(
        release=release.manifest.release.directory,
        manifest=Digest.of(release.manifest_bytes),
        steps=tuple(sorted(steps, key=lambda step: list(Kind).index(step.kind))),
        allowances=allowed,
        highest=before.highest,
        only=only,
    )


def _with(layout: Layout, names: Collection[str]) -> Layout:
    """Give a layout with some of its checkpoints alone."""
    checkpoints = {name: place for name, place in layout.checkpoints.items() if name in names}
    return replace(layout, checkpoints=checkpoints)


def _check_archives(
    release: TrustedRelease, asked: Layout, steps: Sequence[Step], emit: Emit
) -> None:
    """Check everything but the content of each archive that something is to be sent from."""
    pending = {step.name for step in steps if step.state is State.TO_DO}
    needed, spared, absent = [], [], []
    for name, place in asked.checkpoints.items():
        checkpoint = release.manifest.checkpoint(name)
        lacking = pending.intersection(place.key(file.path) for file in checkpoint.files)
        if not lacking:
            spared.append(checkpoint.archive)
            continue
        lies = release.place(checkpoint.archive)
        if lies is None:
            absent.append(f"{checkpoint.archive}: absent, and {place} lacks {len(lacking)} objects")
        elif isinstance(lies, VolumeSet) and lies.faults:
            absent += map(str, lies.faults)
        else:
            needed.append((lies, checkpoint))
    if spared:
        emit(Noted(f"nothing is to be sent from {', '.join(spared)}: not needed, not looked at"))
    if absent:
        raise ContentError(
            "; ".join(absent),
            hint=f"copy what is named to {release.files.shown()}, or name another place: --volumes "
            "DIR; nothing was sent",
        )
    for lies, checkpoint in needed:
        check_structure(lies, checkpoint)


def _require_the_rest(only: Only, asked: Layout, steps: Sequence[Step]) -> None:
    """Refuse when the chart is to be installed without something that this run would not bring."""
    brought = set(map(str, asked.checkpoints.values()))
    missing = Counter(
        f"checkpoint {step.group}" if step.group else f"{step.kind} {step.place or step.name}"
        for step in steps
        if step.state is State.TO_DO and not (step.group in brought if step.group else only.images)
    )
    if missing:
        raise CheckError(
            "the chart needs what is not there yet, and --only leaves out:\n"
            + "\n".join(f"{n} files of {what}" if n > 1 else what for what, n in missing.items()),
            hint="nothing was sent; add --only images, --only checkpoints, or leave out --only",
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
