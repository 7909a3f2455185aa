"""The receipt of a run, made from its plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bundler import __version__
from bundler.digest import Digest
from bundler.parts import s3_checksum
from bundler.publish.chart import RenderedChart
from bundler.publish.layout import Layout, pinned_image
from bundler.publish.objects import markers, release_files
from bundler.publish.plan import Kind, Plan, State
from bundler.publish.push_progress import Sent
from bundler.receipt import ChartReceipt, ImageReceipt, ObjectReceipt, Receipt, TrustReceipt
from bundler.reference import ImageTag
from bundler.release import TrustedRelease
from bundler.target import Target
from bundler.tools.helm_release import Installed


def make_receipt(
    plan: Plan,
    release: TrustedRelease,
    target: Target,
    layout: Layout,
    *,
    sent: Mapping[ImageTag, Sent],
    read_back: bool,
    chart: RenderedChart | None,
    installed: Installed | None,
    checks_content: bool | None,
    now: str,
) -> Receipt:
    """Say what a plan that was carried out came to.

    Args:
        plan: What there was to do; nothing, where images were only read back, or nothing but this
            receipt, where a run before left it out.
        release: The one that was published.
        target: Where it went.
        layout: All names there.
        sent: What each image came to.
        read_back: Whether the images were read back.
        chart: What is installed; None where the run was not about it.
        installed: What Helm says of that.
        checks_content: Whether the store refuses wrong bytes; None where it was not asked.
        now: When the run began.
    """
    return Receipt(
        release=plan.release,
        manifest=plan.manifest,
        sequence=release.manifest.release.sequence,
        signatures=release.signatures,
        trust=_trust(release),
        time=now,
        tool=__version__,
        bucket=str(target.s3.place),
        store_checks_content=checks_content,
        images=tuple(_images(plan, release, target, sent)),
        images_read_back=read_back and bool(sent),
        objects=(*_checkpoint_files(plan, release, layout), *_small(plan, release, layout)),
        chart=_chart(plan, target, chart, installed) if chart else None,
        allowances=plan.allowances,
        done=tuple(_done(plan, sent)),
    )


def _trust(release: TrustedRelease) -> TrustReceipt:
    trust = release.trust
    return TrustReceipt(
        version=trust.version,
        threshold=trust.signers.threshold,
        keys=tuple(key.spki_digest for key in trust.signers.keys),
        signed=tuple(key.spki_digest for key in release.signers),
    )


def _chart(
    plan: Plan, target: Target, chart: RenderedChart, installed: Installed | None
) -> ChartReceipt:
    return ChartReceipt(
        namespace=target.kubernetes.namespace,
        release=target.kubernetes.release,
        chart=f"{chart.chart.name}-{chart.chart.version}",
        revision=installed.revision if installed else 0,
        values_digest=Digest.of(chart.values_file),
        changed=plan.is_pending(Kind.CHART, target.kubernetes.release),
    )


def _left_out(plan: Plan, *kinds: Kind) -> set[str]:
    """Name what nobody asked about, and where another thing lies, which stays."""
    steps = (step for step in plan.steps if step.state is State.NOT_ASKED or step.kept)
    return {step.name for step in steps if step.kind in kinds}


def _done(plan: Plan, sent: Mapping[ImageTag, Sent]) -> Iterator[str]:
    images = set(map(str, sent))
    for step in plan.pending:
        if step.kind in {Kind.RECEIPT, Kind.POINTER}:  # is this one, and is set after it
            continue
        if step.kind is not Kind.IMAGE or step.name in images:
            yield f"{step.kind} {step.name}"


def _images(
    plan: Plan, release: TrustedRelease, target: Target, sent: Mapping[ImageTag, Sent]
) -> Iterator[ImageReceipt]:
    for image in release.manifest.images:
        moved = sent.get(image.tag)
        if moved is None:  # others stay under its tag
            continue
        yield ImageReceipt(
            tag=image.tag,
            source_digest=image.source_digest,
            digest=image.digest,
            reference=pinned_image(target.registry.host, image),
            sent=plan.is_pending(Kind.IMAGE, str(image.tag)),
            bytes_sent=moved.sent,
            bytes_mounted=moved.mounted,
            bytes_there=moved.there,
            bytes_sent_again=moved.again,
        )


def _checkpoint_files(
    plan: Plan, release: TrustedRelease, layout: Layout
) -> Iterator[ObjectReceipt]:
    unknown = _left_out(plan, Kind.CHECKPOINT_FILE)
    for name, place in layout.checkpoints.items():
        for file in release.manifest.checkpoint(name).files:
            key = place.key(file.path)
            if key in unknown:
                continue
            yield ObjectReceipt(
                key=key,
                size=file.size,
                digest=file.digest,
                checksum=s3_checksum(file.parts),
                sent=plan.is_pending(Kind.CHECKPOINT_FILE, key),
            )


def _small(plan: Plan, release: TrustedRelease, layout: Layout) -> Iterator[ObjectReceipt]:
    groups = (
        (Kind.RELEASE_FILE, release_files(release, layout)),
        (Kind.MARKER, markers(release, layout)),
    )
    unknown = _left_out(plan, Kind.RELEASE_FILE, Kind.MARKER)
    for kind, contents in groups:
        for key, content in contents.items():
            if key in unknown:
                continue
            digest = Digest.of(content)
            yield ObjectReceipt(
                key=key,
                size=len(content),
                digest=digest,
                checksum=digest.base64,
                sent=plan.is_pending(kind, key),
            )
