"""Images: how they stand at the registry, for the plan and before the chart."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bundler.archive.bundle_files import BundleFiles
from bundler.errors import CheckError
from bundler.events import Emit, Noted
from bundler.manifest import Image
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.schedule import Cargo, Survey, bytes_to_mount, bytes_to_send, schedule
from bundler.publish.survey import survey
from bundler.sizes import size_text
from bundler.stores.base import Registry, Repositories

LOOKING_THREADS = 4
_IF_MOUNTED = "not sent again if the registry mounts them"
_OTHERS_STAY = "something else is attached under this tag; it stays"


def load(files: BundleFiles, images: Sequence[Image]) -> tuple[Cargo, ...]:
    """Read what the archives of some images hold, and prove all of it but the layers' bytes.

    Raises:
        ContentError, MalformedError: An archive is not what was signed, or is no image.
    """
    files.check_images(images)
    return tuple(Cargo(image, files.image_tree(image)) for image in images)


def plan_images(
    registry: Registry,
    cargo: Sequence[Cargo],
    host: str,
    *,
    without: Collection[str] = (),
    repositories: Repositories | None = None,
) -> Iterator[Step]:
    """Say for each image whether the registry, at ``host``, has all of it under its tag.

    Args:
        registry: Where they go.
        cargo: All images of the release, in the manifest's order.
        host: What to call the registry.
        without: Repositories that are not there yet: nothing is asked about their images.
        repositories: Those of the registry, asked where images share anything; None where nobody
            knows whether it mounts.

    Raises:
        ContentError: The registry serves a manifest with other bytes than its digest says.
        DeniedError, WorldError: It does not let us, or cannot be reached.
    """
    known = [item for item in cargo if item.repository not in without]
    found = survey(registry, known, threads=LOOKING_THREADS, stop=threading.Event())
    whole = [item.image for item in known if found.has_all(item)]
    to_come = [item for item in cargo if not is_anothers(item, found)]
    waves = schedule(to_come, found, whole)
    sizes, shared = bytes_to_send(waves), bytes_to_mount(waves)
    refusal = repositories.mount_refusal() if repositories and shared else ""
    for item in cargo:
        tag = item.image.tag
        to_go = _ToGo(sizes.get(tag, 0), shared.get(tag, 0), refusal)
        yield _step(item, found, host, to_go)


@dataclass(frozen=True, slots=True)
class _ToGo:
    """What an image lacks at the registry.

    Attributes:
        alone: Bytes that are to be sent in any case.
        shared: Bytes that another repository has, or gets first.
        refusal: Why these are not mounted; empty where they may be.
    """

    alone: int
    shared: int
    refusal: str


def moved_tag(item: Cargo, found: Survey, host: str) -> str:
    """Say what an image's tag names if it is something else; empty where it is not."""
    image, named = item.image, found.tags.get(item.image.tag)
    if named is None or named == image.digest:
        return ""
    return f"{host}/{image.tag} names {named}, expected {image.digest}; tags are never moved"


def is_anothers(item: Cargo, found: Survey) -> bool:
    """Say whether what is about an image finds other such things under its tag.

    They are of another release, which may have more of them, or the customer's own. The image
    runs without ours, so this is no conflict, and theirs are not ours to replace.
    """
    image = item.image
    return image.subject is not None and found.tags.get(image.tag, image.digest) != image.digest


def leave_others(cargo: Iterable[Cargo], found: Survey, emit: Emit) -> tuple[Cargo, ...]:
    """Leave out, and tell of, what ``is_anothers``."""
    ours = []
    for item in cargo:
        if is_anothers(item, found):
            emit(Noted(f"image {item.image.tag}: {_OTHERS_STAY}"))
        else:
            ours.append(item)
    return tuple(ours)


def pending_images(plan: Plan, images: Iterable[Image]) -> list[Image]:
    """Give those of some images that a plan says are to do."""
    names = {step.name for step in plan.pending if step.kind is Kind.IMAGE}
    return [image for image in images if str(image.tag) in names]


def present_images(plan: Plan, images: Iterable[Image]) -> list[Image]:
    """Give those of some images that a plan says are there."""
    steps = (step for step in plan.steps if step.state is State.PRESENT and not step.kept)
    names = {step.name for step in steps if step.kind is Kind.IMAGE}
    return [image for image in images if str(image.tag) in names]


def require_images(registry: Registry, images: Iterable[Image], host: str) -> None:
    """Make sure that images are at the registry, ``host``, under the digests that were signed.

    Their manifests are read and hashed, under the tag.

    Raises:
        CheckError: One is not.
    """
    for image in images:
        found = registry.manifest(image.tag.name, image.tag.tag)
        if found is None or found.digest != image.digest:
            raise CheckError(
                f"{host}/{image.tag}: expected {image.digest} at the registry, "
                f"got {found.digest if found else 'nothing'}",
                hint="nothing was installed; somebody changed the registry meanwhile: run again",
            )


def _step(item: Cargo, found: Survey, host: str, to_go: _ToGo) -> Step:
    name, kept = str(item.image.tag), is_anothers(item, found)
    state, detail, size, shared = State.PRESENT, _OTHERS_STAY if kept else "", 0, 0
    wrong = (moved_tag(item, found, host), *(f"{host}/{it}" for it in found.wrong_sizes(item)))
    if not kept and any(wrong):
        state, detail = State.CONFLICT, "; ".join(filter(None, wrong))
    elif not kept and not found.is_whole(item):
        state, detail = State.TO_DO, _to_do(item, found, to_go)
        again = to_go.shared if to_go.refusal else 0
        size, shared = to_go.alone + again, to_go.shared - again
    return Step(
        kind=Kind.IMAGE,
        name=name,
        state=state,
        detail=detail,
        size=size,
        shared=shared,
        kept=kept,
        place=f"{host}/{name}",
    )


def _to_do(item: Cargo, found: Survey, to_go: _ToGo) -> str:
    """Say why an image is to do, and what becomes of bytes that it shares."""
    details = []
    if item.image.tag in found.tags:
        details.append("the tag is there, and not all that it names")
    if to_go.shared:
        becomes = f"sent again: {to_go.refusal}" if to_go.refusal else _IF_MOUNTED
        details.append(f"{size_text(to_go.shared)} shared with other images, {becomes}")
    elif not to_go.alone:
        details.append("its layers are there")
    return "; ".join(details)
