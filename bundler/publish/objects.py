"""How the objects of a release stand in the bucket, compared with what was signed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from bundler.digest import Digest
from bundler.errors import ConflictError, MalformedError, printable
from bundler.events import Emit, Noted
from bundler.manifest import MANIFEST_NAME, Checkpoint, CheckpointFile
from bundler.publish.layout import Layout, marker_content
from bundler.publish.plan import Kind, State, Step
from bundler.publish.together import for_each
from bundler.reference import S3Prefix
from bundler.release import MAX_SIGNATURE_BYTES, TrustedRelease
from bundler.signing.tuf_roots import MAX_ROOT_BYTES, Root, read_root
from bundler.sizes import count_text
from bundler.stores.base import ObjectStore, StoredObject
from bundler.stores.judgement import Sameness, judge, read_back
from bundler.sums import SUMS_NAME
from bundler.trust import TRUST_FOLDER, is_trust_path, root_name

_THREADS = 8
_NAMED = 3
_ANOTHER_ROOT = (
    "holds another file of this version of the trust file, which says something else, or which too "
    "few signed: ask the vendor which is right"
)


def plan_checkpoint(
    store: ObjectStore, checkpoint: Checkpoint, place: S3Prefix, emit: Emit
) -> list[Step]:
    """Say for each file of a checkpoint whether the bucket holds it.

    Asks for a listing, then for the checksum of each object that is there; reads an object only
    where the store has no checksum that can be compared with the signed parts.
    """
    listed = {item.key: item for item in store.list(f"{place.prefix}/")}
    wanted = {place.key(file.path): file for file in checkpoint.files}
    extra = sorted(listed.keys() - wanted.keys())
    if extra:
        names = printable(", ".join(extra[:_NAMED])) + (" ..." if len(extra) > _NAMED else "")
        count = count_text(len(extra), "object")
        emit(Noted(f"{place}: holds {count} not of the release: {names}"))

    steps: dict[str, Step] = {}

    def look(item: tuple[str, CheckpointFile]) -> None:
        key, file = item
        state, detail = _state(store, key, file, listed.get(key), emit)
        size = file.size if state is State.TO_DO else 0
        steps[key] = Step(
            kind=Kind.CHECKPOINT_FILE,
            name=key,
            state=state,
            detail=detail,
            size=size,
            group=str(place),
        )

    for_each(look, wanted.items(), threads=_THREADS, stop=threading.Event())
    return [steps[key] for key in wanted]


def plan_small_objects(
    store: ObjectStore, release: TrustedRelease, layout: Layout
) -> Iterator[Step]:
    """Say for the release's own files and the completion markers whether the bucket holds them."""
    for key, content in release_files(release, layout).items():
        yield _release_file(store, release, layout, key, content)
    for key, content in markers(release, layout).items():
        yield _small(store, Kind.MARKER, key, content)


def put_release_file(
    store: ObjectStore, release: TrustedRelease, layout: Layout, step: Step
) -> Step:
    """Put one of the release's own small files, unless somebody just put one that is as good.

    Returns:
        The step; where another one stays, what says so.

    Raises:
        ConflictError: What is there now is not as good.
    """
    content = release_files(release, layout)[step.name]
    try:
        store.put(step.name, content)
    except ConflictError:
        now = _release_file(store, release, layout, step.name, content)
        if now.state is not State.PRESENT:
            raise
        return now
    return step


def release_files(release: TrustedRelease, layout: Layout) -> dict[str, bytes]:
    """Give the release's own small files by the keys they get, in the order of writing.

    Reads nothing: what travels beside the signatures that count is what was carried along.
    The manifest comes last: where it lies, all that travels with the release lies too.
    """
    carried = release.signature_files if release.carried is None else release.carried
    files = dict(carried)
    files |= {SUMS_NAME: release.sums_bytes, MANIFEST_NAME: release.manifest_bytes}
    return {layout.release.key(name): content for name, content in files.items()}


def markers(release: TrustedRelease, layout: Layout) -> dict[str, bytes]:
    """Give the completion marker of each checkpoint by its key."""
    checkpoints = [release.manifest.checkpoint(name) for name in layout.checkpoints]
    return {
        layout.marker(item): marker_content(item, layout.checkpoints[item.name])
        for item in checkpoints
    }


def first_wrong_part(store: ObjectStore, key: str, file: CheckpointFile) -> str:
    """Read an object back and compare it with the signed parts.

    Returns:
        What differs first, in words; empty where all is right.
    """
    return read_back(partial(store.read, key), file.size, file.parts)


def _state(
    store: ObjectStore, key: str, file: CheckpointFile, listed: StoredObject | None, emit: Emit
) -> tuple[State, str]:
    if listed is None:
        return State.TO_DO, ""
    found = listed if listed.size != file.size else store.head(key)
    if found is None:
        return State.TO_DO, ""
    judged = judge(found, file.size, file.parts, file.digest)
    wrong = judged.detail
    if judged.sameness is Sameness.UNKNOWN:
        emit(Noted(f"{printable(key)}: the store has no checksum to compare, so it is read back"))
        wrong = first_wrong_part(store, key, file)
    return (State.CONFLICT, wrong) if wrong else (State.PRESENT, "")


def _small(store: ObjectStore, kind: Kind, key: str, content: bytes) -> Step:
    found = store.head(key)
    if found is None:
        return Step(kind=kind, name=key, state=State.TO_DO, size=len(content))
    if _holds(store, found, content):
        return Step(kind=kind, name=key, state=State.PRESENT)
    return Step(
        kind=kind,
        name=key,
        state=State.CONFLICT,
        detail="holds other content: another release was published under this name",
    )


def _release_file(
    store: ObjectStore, release: TrustedRelease, layout: Layout, key: str, content: bytes
) -> Step:
    step = _small(store, Kind.RELEASE_FILE, key, content)
    if step.state is not State.CONFLICT:
        return step
    path = key.removeprefix(f"{layout.release.prefix}/")
    return _judged(store, step, content, path, release)


def _judged(
    store: ObjectStore, step: Step, content: bytes, path: str, release: TrustedRelease
) -> Step:
    """Judge what lies where a release's file is to go and is not the same: it may be as good.

    What vouches for the release there must hold; other files decide nothing, so any one stays.
    """
    if path in {MANIFEST_NAME, SUMS_NAME}:
        return step
    stays = replace(step, state=State.PRESENT, kept=True, detail="another one is there, and stays")
    if path in release.signature_files:
        return stays if _is_signed(store, step.name, path, release) else step
    if is_trust_path(path):
        ours = read_root(content, name=path)
        as_good = _is_same_root(store, step.name, ours, _root_before(release, ours.version))
        return stays if as_good else replace(step, detail=_ANOTHER_ROOT)
    return stays


def _is_signed(store: ObjectStore, key: str, name: str, release: TrustedRelease) -> bool:
    """ECDSA is not deterministic: another signature of the same key is as good as ours."""
    try:
        return release.is_signature(name, store.get(key, limit=MAX_SIGNATURE_BYTES))
    except MalformedError:  # too long to be one
        return False


def _root_before(release: TrustedRelease, version: int) -> Root | None:
    """Give the version before one, as it travels or as the operator has it; None if nobody has."""
    path = f"{TRUST_FOLDER}/{root_name(version - 1)}"
    if content := (release.carried or {}).get(path):
        return read_root(content, name=path)
    trust = release.trust
    judged = (trust.given, *trust.newer)
    return next((root for root in judged if root and root.version == version - 1), None)


def _is_same_root(store: ObjectStore, key: str, ours: Root, before: Root | None) -> bool:
    """Say whether another file of a version says the same, and enough have signed that, too.

    Enough of the holders before it must have, so that who has that version can follow.
    """
    try:
        found = read_root(store.get(key, limit=MAX_ROOT_BYTES), name=key)
    except MalformedError:
        return False
    by = [found, *([before] if before else [])]
    return found.signed_bytes == ours.signed_bytes and all(found.tally(each) for each in by)


def _holds(store: ObjectStore, found: StoredObject, content: bytes) -> bool:
    sameness = judge(found, len(content), [Digest.of(content)]).sameness
    if sameness is Sameness.UNKNOWN:
        return store.get(found.key, limit=len(content)) == content
    return sameness is Sameness.SAME
