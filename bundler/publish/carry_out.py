"""Carrying a plan out, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.files import atomic_write_bytes
from bundler.digest import Digest
from bundler.events import Emit, Finished, Noted, Started, ignore
from bundler.publish.chart import RenderedChart, render_chart
from bundler.publish.closure import check_closure, check_installed
from bundler.publish.content import check_pending_content
from bundler.publish.destination import Destination
from bundler.publish.images import require_images
from bundler.publish.layout import Layout, lay_out
from bundler.publish.objects import markers, release_files
from bundler.publish.plan import Kind, Plan, Step, require_no_conflicts
from bundler.publish.planning import open_bundle_of
from bundler.publish.pointer import point, remember_sequence
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions
from bundler.publish.push_progress import Sent
from bundler.publish.receipts import make_receipt
from bundler.publish.scratch import scratch_directory
from bundler.publish.secrets import WantedSecret, namespace_object, secret_object
from bundler.publish.sending import SendImages
from bundler.publish.together import side_by_side
from bundler.publish.upload import Upload
from bundler.publish.waiting import REAL_CLOCK, Clock, wait_until_ready
from bundler.publish.writable import require_writable
from bundler.receipt import Receipt, encode_receipt
from bundler.reference import ImageTag
from bundler.release import TrustedRelease
from bundler.target import Target


def publish(
    plan: Plan,
    release: TrustedRelease,
    target: Target,
    destination: Destination,
    *,
    secrets: Sequence[WantedSecret],
    values_path: Path,
    receipts: Path,
    now: str,
    verify_first: bool = False,
    images: PushOptions = DEFAULT_OPTIONS,
    scratch_parent: Path | None = None,
    emit: Emit = ignore,
    clock: Clock = REAL_CLOCK,
) -> Receipt | None:
    """Carry out a plan that ``make_plan`` just made with the same arguments.

    Safe to run again after a failure or a kill at any point: make a new plan, which has only what
    is left. At most a few parts of a file are in memory at a time. No image is unpacked but for an
    engine that takes archives, and then one at a time.

    Args:
        plan: What to do.
        release: As for ``make_plan``, and so the next three.
        target: Where it goes.
        destination: What the target names, opened.
        secrets: What ``read_secrets`` gave.
        values_path: The values file that Helm is given; written when the chart is to do.
        receipts: Directory for the receipt.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.
        verify_first: Read all that would be sent before anything is sent.
        images: How images are pushed.
        scratch_parent: Where that is, and the chart; None for the system's place for such files.
        emit: Told of progress; may be called from other threads.
        clock: Time, for waiting.

    Returns:
        What was done, also written to ``receipts`` and beside the manifest in the bucket; None
        where there was nothing to do, and then nothing was written at all.

    Raises:
        ConflictError: The plan has conflicts; nothing was sent.
        ContentError: An archive differs from what was signed; no object or tag has its bytes, and
            the chart is as it was.
        CheckError: The chart names an image that is not there as signed, or a pod does not get
            ready.
        StaleError: A newer release was installed since the plan was made.
        WorldError: Something outside refused or failed.
    """
    require_no_conflicts(plan)
    if not plan.pending and not images.read_back:
        return None
    require_writable(values_path.parent, receipts)
    with open_bundle_of(release) as bundle, scratch_directory(scratch_parent) as scratch:
        run = _Run(
            plan=plan,
            release=release,
            target=target,
            layout=lay_out(release.manifest, target),
            destination=destination,
            bundle=bundle,
            images=images,
            scratch=scratch,
            emit=emit,
        )
        if not plan.pending:
            run.images_to_send(threading.Event()).send(plan)  # reads back what is there
            return None
        return run.all(
            secrets, values_path, receipts, now=now, verify_first=verify_first, clock=clock
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    plan: Plan
    release: TrustedRelease
    target: Target
    layout: Layout
    destination: Destination
    bundle: BundleFiles
    images: PushOptions
    scratch: Path
    emit: Emit

    def images_to_send(self, stop: threading.Event) -> SendImages:
        return SendImages(
            destination=self.destination,
            host=self.target.registry.host,
            manifest=self.release.manifest,
            files=self.bundle,
            options=self.images,
            scratch=self.scratch,
            stop=stop,
            emit=self.emit,
        )

    def all(
        self,
        secrets: Sequence[WantedSecret],
        values_path: Path,
        receipts: Path,
        *,
        now: str,
        verify_first: bool,
        clock: Clock,
    ) -> Receipt:
        if verify_first:
            check_pending_content(self.plan, self.release, self.layout, self.bundle, self.emit)
        checks_content = self._checks_content()
        sent = self._send(checks_content)
        self._put_small()
        self._prepare_cluster(secrets)
        chart = self._install(values_path)
        if self._steps(Kind.PODS):
            self._wait(chart, clock)
        receipt = make_receipt(
            self.plan,
            self.release,
            self.target,
            self.layout,
            sent=sent,
            chart=chart,
            installed=self.destination.cluster.installed(),
            checks_content=checks_content,
            now=now,
        )
        self._write(receipt, receipts)
        if self._steps(Kind.POINTER):
            self._point()
        return receipt

    def _steps(self, *kinds: Kind) -> list[Step]:
        return [step for step in self.plan.pending if step.kind in kinds]

    @contextmanager
    def _told(self, verb: str, item: str) -> Iterator[None]:
        self.emit(Started(verb, item))
        yield
        self.emit(Finished(item))

    def _checks_content(self) -> bool:
        if not self._steps(Kind.CHECKPOINT_FILE, Kind.MARKER):
            return True
        checks = self.destination.store.checks_content(self.layout.release.prefix)
        if not checks:
            self.emit(
                Noted(
                    "this S3 server takes bytes that differ from their checksum, so each part is "
                    "hashed before it is sent and every object is read back"
                )
            )
        return checks

    def _send(self, checks_content: bool) -> Mapping[ImageTag, Sent]:
        """Send images and checkpoints side by side; where one fails, the other stops soon."""
        stop = threading.Event()
        images = self.images_to_send(stop)
        upload = Upload(
            store=self.destination.store,
            directory=self.release.directory,
            elsewhere=self.release.elsewhere,
            checks_content=checks_content,
            stop=stop,
            emit=self.emit,
        )
        images.make_repositories(self.plan)
        sent: dict[ImageTag, Sent] = {}
        side_by_side(
            stop,
            lambda: sent.update(images.send(self.plan)),
            lambda: self._upload(upload),
        )
        return sent

    def _upload(self, upload: Upload) -> None:
        work = []
        for name, place in self.layout.checkpoints.items():
            checkpoint = self.release.manifest.checkpoint(name)
            # A checkpoint with its marker was whole once, and proven so.
            if self.plan.is_pending(Kind.MARKER, self.layout.marker(checkpoint)) or any(
                self.plan.is_pending(Kind.CHECKPOINT_FILE, place.key(file.path))
                for file in checkpoint.files
            ):
                work.append((checkpoint, place))
        upload.send(self.plan, work)

    def _put_small(self) -> None:
        contents = release_files(self.release, self.layout) | markers(self.release, self.layout)
        for step in self._steps(Kind.RELEASE_FILE, Kind.MARKER):
            with self._told("put", step.name):
                self.destination.store.put(step.name, contents[step.name])

    def _prepare_cluster(self, secrets: Sequence[WantedSecret]) -> None:
        namespace = self.target.kubernetes.namespace
        for step in self._steps(Kind.NAMESPACE):
            with self._told("make", f"namespace {step.name}"):
                self.destination.cluster.apply(namespace_object(step.name))
        for wanted in secrets:
            if self.plan.is_pending(Kind.CREDENTIAL, wanted.name):
                with self._told("write", f"secret {wanted.name}"):
                    self.destination.cluster.apply(secret_object(wanted, namespace))

    def _install(self, values_path: Path) -> RenderedChart:
        chart = render_chart(
            self.release,
            self.bundle,
            self.target,
            self.layout,
            cluster=self.destination.cluster,
            directory=self.scratch,
        )
        named = check_closure(chart.objects, self.release.manifest, self.target.registry.host)
        if self._steps(Kind.CHART):
            require_images(self.destination.registry, named)
            remember_sequence(
                self.destination.store,
                self.layout.pointer,
                self.release.manifest.release,
                judged=self.plan.highest,
            )
            atomic_write_bytes(values_path, chart.values_file)
            with self._told("install", f"chart {chart.chart.name}-{chart.chart.version}"):
                self.destination.cluster.upgrade(chart.path, values_path)
        check_installed(
            self.destination.cluster.manifest(), self.release.manifest, self.target.registry.host
        )
        return chart

    def _wait(self, chart: RenderedChart, clock: Clock) -> None:
        kubernetes = self.target.kubernetes
        with self._told("wait for", f"pods of {kubernetes.release}"):
            wait_until_ready(
                self.destination.cluster,
                chart.deployments,
                kubernetes.release,
                timeout_seconds=kubernetes.timeout_seconds,
                emit=self.emit,
                clock=clock,
            )

    def _write(self, receipt: Receipt, receipts: Path) -> None:
        content = encode_receipt(receipt)
        atomic_write_bytes(receipts / receipt.file_name, content)
        self.destination.store.put(
            self.layout.release.key("receipts", f"{receipt.name}.json"), content
        )

    def _point(self) -> None:
        """Last of all, so that a run which was killed has something left to do, and a receipt."""
        point(
            self.destination.store,
            self.layout.pointer,
            self.release.manifest.release,
            Digest.of(self.release.manifest_bytes),
            judged=self.plan.highest,
        )
