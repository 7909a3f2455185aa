"""Reading, before anything is sent, all that would be sent: the work of ``--verify-first``."""

from __future__ import annotations

from bundler.archive.bundle import BundleReader
from bundler.archive.checkpoint import check_parts
from bundler.errors import ContentError
from bundler.events import Emit
from bundler.faults import Fault
from bundler.publish.layout import Layout
from bundler.publish.plan import Kind, Plan
from bundler.release import TrustedRelease


def check_pending_content(
    plan: Plan, release: TrustedRelease, layout: Layout, reader: BundleReader, emit: Emit
) -> None:
    """Compare every byte that a plan would send with what was signed.

    Raises:
        ContentError: Something differs; the message has every fault.
    """
    faults: list[Fault] = []
    if any(step.kind is Kind.IMAGE for step in plan.pending):
        faults += reader.check_slices(emit)
    for name, place in layout.checkpoints.items():
        checkpoint = release.manifest.checkpoint(name)
        files = {
            file.path
            for file in checkpoint.files
            if plan.is_pending(Kind.CHECKPOINT_FILE, place.key(file.path))
        }
        if files:
            archive = release.directory / checkpoint.archive
            faults += check_parts(archive, checkpoint, emit=emit, files=files)
    if faults:
        raise ContentError(
            "; ".join(map(str, faults)), hint="nothing was sent; copy what is named again"
        )
