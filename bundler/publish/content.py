"""Reading, before anything is sent, all that would be sent: the work of ``--verify-first``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.checkpoint import check_parts
from bundler.archive.hashing import in_threads
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Advanced, Emit, Finished, Started
from bundler.faults import Fault
from bundler.manifest import Bundle, BundleFile
from bundler.publish.images import pending_images
from bundler.publish.layout import Layout
from bundler.publish.plan import Kind, Plan
from bundler.release import TrustedRelease


def check_pending_content(
    plan: Plan,
    release: TrustedRelease,
    layout: Layout,
    bundle: Callable[[], BundleFiles],
    emit: Emit,
) -> None:
    """Compare every byte that a plan would send with what was signed.

    ``bundle`` opens the bundle; it is not called where no image is to be sent.

    Raises:
        ContentError: Something differs; the message has every fault.
    """
    signed = release.manifest.bundle
    images = pending_images(plan, release.manifest.images)
    archives = [signed.file(image.tag.archive_path) for image in images]
    faults = list(_image_faults(bundle(), signed, archives, emit)) if archives else []
    for name, place in layout.checkpoints.items():
        checkpoint = release.manifest.checkpoint(name)
        files = {
            file.path
            for file in checkpoint.files
            if plan.is_pending(Kind.CHECKPOINT_FILE, place.key(file.path))
        }
        if files:
            archive = release.require_place(checkpoint.archive)
            faults += check_parts(archive, checkpoint, emit=emit, files=files)
    if faults:
        raise ContentError(
            "; ".join(map(str, faults)), hint="nothing was sent; copy what is named again"
        )


def _image_faults(
    bundle: BundleFiles, signed: Bundle, archives: Iterable[BundleFile], emit: Emit
) -> Iterator[Fault]:
    """Hash the archives of images, several at once."""

    def digest(file: BundleFile) -> tuple[BundleFile, str]:
        emit(Started("verify", file.path, file.size))
        whole = hashlib.sha256()
        try:
            for piece in bundle.pieces(file, 0, file.size):
                whole.update(piece)
                emit(Advanced(file.path, len(piece)))
        except ContentError as error:
            emit(Finished(file.path, wrong=True))
            return file, f"damage ({error})"
        got = str(Digest(whole.hexdigest()))
        emit(Finished(file.path, wrong=got != str(file.digest)))
        return file, got

    for file, got in in_threads(digest, archives):
        if got != str(file.digest):
            yield Fault(archive=signed.archive, path=file.path, expected=str(file.digest), got=got)
