"""Reading, before anything is sent, all that would be sent: the work of ``--verify-first``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.checkpoint import check_parts
from bundler.archive.hashing import in_threads
from bundler.errors import ContentError
from bundler.events import Advanced, Emit, Finished, Started
from bundler.faults import Fault
from bundler.manifest import BundleFile, Image
from bundler.publish.image_content import (
    REBUILD_HINT,
    ArchiveContent,
    hash_archive,
    misnamed_text,
)
from bundler.publish.images import pending_images
from bundler.publish.layout import Layout
from bundler.publish.plan import Kind, Plan
from bundler.release import TrustedRelease

_COPY_HINT = "copy what is named again"


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
        ContentError: Something differs, or a blob of an image is not what its name says; the
            message has every fault.
    """
    archive, images = release.manifest.bundle.archive, release.manifest.images
    pending = pending_images(plan, images)
    read = read_images(bundle(), pending, archive, emit) if pending else ReadImages()
    faults = list(read.faults)
    for name, place in layout.checkpoints.items():
        checkpoint = release.manifest.checkpoint(name)
        files = {
            file.path
            for file in checkpoint.files
            if plan.is_pending(Kind.CHECKPOINT_FILE, place.key(file.path))
        }
        if files:
            lies = release.require_place(checkpoint.archive)
            faults += check_parts(lies, checkpoint, emit=emit, files=files)
    hints = [_COPY_HINT] * bool(faults) + [REBUILD_HINT] * bool(read.misnamed)
    if hints:
        wrong = [*map(str, faults), *read.misnamed]
        raise ContentError("; ".join(wrong), hint="; ".join(["nothing was sent", *hints]))


@dataclass(frozen=True, slots=True)
class ReadImages:
    """What is wrong with the archives of some images.

    Attributes:
        faults: Those that are not what was signed.
        misnamed: In words: blobs that are not what their names say, in archives that are as signed.
    """

    faults: tuple[Fault, ...] = ()
    misnamed: tuple[str, ...] = ()


def read_images(
    bundle: BundleFiles, images: Iterable[Image], archive: str, emit: Emit
) -> ReadImages:
    """Hash the archives of images and all that is in them, several at once.

    Args:
        bundle: What has them.
        images: Whose.
        archive: What a fault calls the bundle.
        emit: Told of progress; from other threads.
    """
    faults, misnamed = [], []
    for file, got in in_threads(partial(_read, bundle, emit), images):
        if isinstance(got, str) or got.digest != file.digest:
            found = got if isinstance(got, str) else str(got.digest)
            fault = Fault(archive=archive, path=file.path, expected=str(file.digest), got=found)
            faults.append(fault)
        else:
            misnamed += [misnamed_text(file.path, *pair) for pair in got.misnamed.items()]
    return ReadImages(tuple(faults), tuple(misnamed))


def _read(bundle: BundleFiles, emit: Emit, image: Image) -> tuple[BundleFile, ArchiveContent | str]:
    """Hash one archive; a text where it is too damaged to be read."""
    file = bundle.archive_of(image)
    emit(Started("verify", file.path, file.size))
    try:
        got = hash_archive(bundle, image, lambda step: emit(Advanced(file.path, step)))
    except ContentError as error:
        emit(Finished(file.path, wrong=True))
        return file, f"damage ({error})"
    emit(Finished(file.path, wrong=bool(got.misnamed) or got.digest != file.digest))
    return file, got
