"""Carrying out what ``prune`` planned, and nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from bundler.errors import WorldError
from bundler.events import Emit, Finished, Started, ignore
from bundler.publish.prune_plan import PrunePlan
from bundler.publish.together import for_each
from bundler.sizes import count_text
from bundler.stores.upkeep import UnfinishedUpload, Upkeep

_THREADS = 16
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What became of a plan.

    Attributes:
        deleted: Objects that are gone.
        hidden: Objects that a delete marker hides, since the bucket keeps versions: their bytes
            are still there.
        ended: Uploads that were ended.
    """

    deleted: int = 0
    hidden: int = 0
    ended: int = 0

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        return {
            "deletedObjects": self.deleted,
            "hiddenObjects": self.hidden,
            "endedUploads": self.ended,
        }


def prune(plan: PrunePlan, upkeep: Upkeep, *, emit: Emit = ignore) -> Pruned:
    """Delete and end what a plan says; safe to run again after a kill at any point.

    Raises:
        DeniedError, WorldError: The store refused or failed. What is deleted stays so, and the
            next plan has the rest.
    """
    hidden: list[bool] = []

    def delete(key: str) -> None:
        hidden.append(upkeep.remove(key))

    for batch in plan.batches():
        if batch:
            item = count_text(len(batch), "object")
            emit(Started("delete", item))
            for_each(delete, batch, threads=_THREADS, stop=threading.Event())
            emit(Finished(item))
    _end_uploads(plan, upkeep)
    return Pruned(deleted=len(hidden) - sum(hidden), hidden=sum(hidden), ended=len(plan.uploads))


def _end_uploads(plan: PrunePlan, upkeep: Upkeep) -> None:
    left: list[str] = []

    def end(upload: UnfinishedUpload) -> None:
        if not upkeep.end(upload):
            left.append(upload.key)

    for_each(end, plan.uploads, threads=_THREADS, stop=threading.Event())
    if left:
        raise WorldError(
            f"{len(left)} uploads were ended and are there still: {', '.join(left[:_NAMED])}",
            hint="somebody sends parts to them; run again when nobody does",
        )
