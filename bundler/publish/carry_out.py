"""Carrying a plan out, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.files import atomic_write_bytes
from bundler.archive.scratch import scratch_directory
from bundler.events import Emit, Noted, ignore, telling
from bundler.publish.content import check_pending_content
from bundler.publish.deploying import Deploying
from bundler.publish.destination import Destination
from bundler.publish.layout import Layout, lay_out
from bundler.publish.looking import open_bundle_of
from bundler.publish.memory import open_memory
from bundler.publish.objects import markers, put_release_file
from bundler.publish.plan import Kind, Plan, State, Step, require_no_conflicts
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions
from bundler.publish.push_progress import Sent
from bundler.publish.receipts import make_receipt
from bundler.publish.secrets import WantedSecret
from bundler.publish.sending import SendImages
from bundler.publish.together import side_by_side
from bundler.publish.upload import HOW_TO_UPLOAD, Upload, UploadOptions
from bundler.publish.waiting import REAL_CLOCK, Clock
from bundler.publish.writable import require_writable
from bundler.receipt import Receipt, encode_receipt
from bundler.reference import ImageTag
from bundler.release import TrustedRelease
from bundler.target import Target

# Before the one, and after the other, bucket and cluster are told what is deployed.
_REMEMBERED = {Kind.CHART, Kind.POINTER}


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
    upload: UploadOptions = HOW_TO_UPLOAD,
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
        upload: How checkpoints are uploaded.
        scratch_parent: Where that is, and the chart; None for the system's place for such files.
        emit: Told of progress; may be called from other threads.
        clock: Time, for waiting.

    Returns:
        What was done, also written to ``receipts`` and, where the bucket was asked for anything,
        beside the manifest there. Where nothing was to do, but images were read back, it is the
        proof of that. None where there was nothing to do at all, and then nothing was written.

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
    layout = lay_out(release.manifest, target)
    if not plan.pending and not (images.read_back and plan.only.uses_registry):
        return None
    require_writable(values_path.parent, receipts)
    if _REMEMBERED & {step.kind for step in plan.pending}:
        open_memory(destination, target, layout).require_writable()
    with ExitStack() as opened:
        run = _Run(
            plan=plan,
            release=release,
            target=target,
            layout=layout,
            destination=destination,
            bundle=cache(lambda: opened.enter_context(open_bundle_of(release))),
            images=images,
            uploading=upload,
            scratch=opened.enter_context(scratch_directory(scratch_parent)),
            emit=emit,
            clock=clock,
        )
        return run.all(secrets, values_path, receipts, now=now, verify_first=verify_first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    plan: Plan
    release: TrustedRelease
    target: Target
    layout: Layout
    destination: Destination
    bundle: Callable[[], BundleFiles]  # opens it once, where it is needed
    images: PushOptions
    uploading: UploadOptions
    scratch: Path
    emit: Emit
    clock: Clock

    def images_to_send(self, stop: threading.Event) -> SendImages:
        return SendImages(
            destination=self.destination,
            host=self.target.registry.host,
            manifest=self.release.manifest,
            files=self.bundle(),
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
    ) -> Receipt:
        if verify_first:
            check_pending_content(self.plan, self.release, self.layout, self.bundle, self.emit)
        checks_content = self._checks_content()
        sent = self._send(checks_content is not False)
        plan = self._put_small()
        chart = None
        if self.plan.only.chart:
            chart = self._deploying().carry_out(secrets, values_path)
        receipt = make_receipt(
            plan,
            self.release,
            self.target,
            self.layout,
            sent=sent,
            read_back=self.images.read_back,
            chart=chart,
            installed=self.destination.cluster.installed() if chart else None,
            checks_content=checks_content,
            now=now,
        )
        self._write(receipt, receipts)
        if self._steps(Kind.POINTER):
            self._point()
        return receipt

    def _steps(self, *kinds: Kind) -> list[Step]:
        return [step for step in self.plan.pending if step.kind in kinds]

    def _deploying(self) -> Deploying:
        return Deploying(
            plan=self.plan,
            release=self.release,
            target=self.target,
            layout=self.layout,
            destination=self.destination,
            bundle=self.bundle(),
            scratch=self.scratch,
            emit=self.emit,
            clock=self.clock,
        )

    def _checks_content(self) -> bool | None:
        if not self._steps(Kind.CHECKPOINT_FILE, Kind.MARKER):
            return None
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
        sent: dict[ImageTag, Sent] = {}
        upload = Upload(
            store=self.destination.store,
            place=self.release.require_place,
            options=self.uploading,
            checks_content=checks_content,
            stop=stop,
            emit=self.emit,
        )
        work: list[Callable[[], None]] = [lambda: self._upload(upload)]
        if self.plan.only.uses_registry:
            images = self.images_to_send(stop)
            images.make_repositories(self.plan)
            work.append(lambda: sent.update(images.send(self.plan)))
        side_by_side(stop, *work)
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

    def _put_small(self) -> Plan:
        """Put the small objects; give the plan as it came to be, where others put some, too."""
        store, steps = self.destination.store, list(self.plan.steps)
        marks = markers(self.release, self.layout)
        for index, step in enumerate(steps):
            if step.state is not State.TO_DO or step.kind not in {Kind.RELEASE_FILE, Kind.MARKER}:
                continue
            with telling(self.emit, "put", step.name):
                if step.kind is Kind.MARKER:
                    store.put(step.name, marks[step.name])
                else:
                    steps[index] = put_release_file(store, self.release, self.layout, step)
        return replace(self.plan, steps=tuple(steps))

    def _write(self, receipt: Receipt, receipts: Path) -> None:
        content = encode_receipt(receipt)
        atomic_write_bytes(receipts / receipt.file_name, content)
        if not self.plan.only.uses_store:
            return
        self.destination.store.put(
            self.layout.release.key("receipts", f"{receipt.name}.json"), content
        )

    def _point(self) -> None:
        """Last of all, so that a run which was killed has something left to do, and a receipt."""
        open_memory(self.destination, self.target, self.layout).point(
            self.release, judged=self.plan.highest
        )
