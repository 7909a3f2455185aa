"""Whether the bucket's receipts tell of all that is there: a killed run may have written none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bundler.digest import Digest
from bundler.errors import DeniedError, MalformedError, WorldError
from bundler.publish.inventory import is_receipt_name
from bundler.publish.layout import RECEIPTS, Layout, pinned_image
from bundler.publish.plan import Kind, State, Step
from bundler.receipt import MAX_RECEIPT_BYTES, Receipt, decode_receipt
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.target import Target

_OBJECTS = {Kind.CHECKPOINT_FILE, Kind.RELEASE_FILE, Kind.MARKER}
# The newest; where more runs than that brought it, part by part, one tells of all of it.
_MOST_READ = 16


def plan_receipt(
    store: ObjectStore,
    release: TrustedRelease,
    target: Target,
    layout: Layout,
    steps: Sequence[Step],
) -> Iterator[Step]:
    """Say that a receipt is to be written where all is there, and those there leave some of it out.

    Where anything else is to do, that run writes one in any case. Where the bucket does not let us
    see its receipts, we take it that they tell of all.

    Args:
        store: The bucket.
        release: The one to publish.
        target: Where it goes.
        layout: All names there.
        steps: How everything stands.
    """
    if any(step.state in {State.TO_DO, State.CONFLICT} for step in steps):
        return
    there = [step for step in steps if step.state is State.PRESENT and not step.kept]
    untold = {step.name for step in there if step.kind in _OBJECTS}
    tags, host = {step.name for step in there if step.kind is Kind.IMAGE}, target.registry.host
    images = (image for image in release.manifest.images if str(image.tag) in tags)
    untold |= {pinned_image(host, image) for image in images}
    try:
        for receipt in _receipts(store, release, target, layout):
            untold -= {image.reference for image in receipt.images}
            untold -= {item.key for item in receipt.objects}
            if not untold:
                return
    except DeniedError:
        return
    place = layout.release / RECEIPTS.rstrip("/")
    yield Step(
        kind=Kind.RECEIPT,
        name=place.prefix,
        state=State.TO_DO,
        detail="to write: none there tells of all of it",
        place=str(place),
    )


def _receipts(
    store: ObjectStore, release: TrustedRelease, target: Target, layout: Layout
) -> Iterator[Receipt]:
    """Give the newest receipts about this very release and place; what is none is passed over."""
    start = f"{layout.release.prefix}/"
    found = [
        item.key
        for item in store.list(f"{start}{RECEIPTS}")
        if is_receipt_name(item.key.removeprefix(start)) and item.size <= MAX_RECEIPT_BYTES
    ]
    ours = Digest.of(release.manifest_bytes), str(target.s3.place)
    for key in sorted(found, reverse=True)[:_MOST_READ]:
        try:
            receipt = decode_receipt(store.get(key, limit=MAX_RECEIPT_BYTES), name=key)
        except DeniedError:
            raise
        except (WorldError, MalformedError):  # gone meanwhile, in cold storage, or none
            continue
        if (receipt.manifest, receipt.bucket) == ours:
            yield receipt
