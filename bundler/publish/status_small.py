"""How a release's small objects stand at its destination: its own files and completion markers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bundler.errors import BundleError, WorldError
from bundler.publish.inventory import Held
from bundler.publish.layout import Layout
from bundler.publish.objects import plan_small_objects
from bundler.publish.plan import Kind, State
from bundler.publish.published import PublishedFiles
from bundler.publish.status import Finding, Standing, Subject, not_asked
from bundler.publish.travelling import NOTHING, travelling
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.trust import is_trust_path

_STANDINGS = {
    State.PRESENT: Standing.PRESENT,
    State.TO_DO: Standing.MISSING,
    State.CONFLICT: Standing.DIFFERENT,
}
_SUBJECTS = {Kind.RELEASE_FILE: Subject.RELEASE_FILE, Kind.MARKER: Subject.MARKER}


def look_at_small_objects(
    store: ObjectStore, release: TrustedRelease, layout: Layout, held: Held | None
) -> Iterator[Finding]:
    """Compare with what would be put there, and judge what travelled with it as it lies there.

    Args:
        store: The bucket.
        release: What was signed; where nothing was carried along with it, what lies there and
            holds is all that is expected to have travelled.
        layout: All names there.
        held: What lies there of the release; None for nothing.
    """
    there = travelling(replace(release, files=PublishedFiles(store, held))) if held else NOTHING
    if release.carried is None:
        release = replace(release, carried=there.carried)
    wrong = {layout.release.key(path): problem for path, problem in there.left.items()}
    for step in plan_small_objects(store, release, layout):
        if step.name not in wrong:
            yield Finding(
                subject=_SUBJECTS[step.kind],
                name=step.name,
                standing=_STANDINGS[step.state],
                detail=step.detail,
            )
    for key, problem in wrong.items():
        yield _not_holding(key, problem)
    if held and release.trust.given is None:
        for path in filter(is_trust_path, held.objects):
            yield _not_judged(layout.release.key(path))


def _not_holding(key: str, problem: BundleError) -> Finding:
    if isinstance(problem, WorldError):
        return not_asked(Subject.RELEASE_FILE, key, problem)
    return Finding(
        subject=Subject.RELEASE_FILE,
        name=key,
        standing=Standing.DIFFERENT,
        detail=f"does not hold: {problem}",
    )


def _not_judged(key: str) -> Finding:
    return Finding(
        subject=Subject.RELEASE_FILE,
        name=key,
        standing=Standing.UNKNOWN,
        detail="not judged: that takes a trust file (--trust)",
    )
