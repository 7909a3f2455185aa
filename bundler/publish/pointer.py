"""Which release is deployed at a destination, and whether another may follow it."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.digest import Digest
from bundler.errors import NotFoundError, StaleError
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.manifest import Manifest, Release
from bundler.publish.plan import Kind, State, Step
from bundler.release import check_expiry
from bundler.stores.base import ObjectStore

_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The release that a destination runs.

    Attributes:
        release: Its name.
        manifest: Digest of its manifest.
        sequence: Its sequence.
    """

    release: str
    manifest: Digest
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What a destination remembers.

    Attributes:
        deployed: What was deployed last, to the end; None where nothing ever was.
        highest: The highest sequence that was ever begun to be installed.
    """

    deployed: Deployed | None
    highest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """What a person allows by name although it is stale.

    Attributes:
        rollback: The very sequence that may be deployed below the highest.
        expired_reason: Why an expired release may be deployed; None where it may not.
    """

    rollback: int | None = None
    expired_reason: str | None = None


NOTHING_ALLOWED = Allowances()


def read_pointer(store: ObjectStore, key: str) -> Pointer | None:
    """Read what a destination remembers; None where nothing was deployed yet.

    Raises:
        MalformedError: It is not what we write.
    """
    try:
        content = store.get(key, limit=_MAX_BYTES)
    except NotFoundError:
        return None
    table = read_json(content, name=key, limit=_MAX_BYTES).table()
    table.integer("formatVersion", 1, 1)
    deployed = None
    if "release" in table:
        deployed = Deployed(
            release=table.text("release"),
            manifest=table.parse("manifestSha256", Digest),
            sequence=table.integer("sequence", 1, MAX_INTEGER),
        )
    return Pointer(deployed=deployed, highest=table.integer("highest", 1, MAX_INTEGER))


def encode_pointer(pointer: Pointer) -> bytes:
    """Give the bytes of a pointer."""
    facts: dict[str, object] = {"formatVersion": 1, "highest": pointer.highest}
    if pointer.deployed is not None:
        facts |= {
            "release": pointer.deployed.release,
            "manifestSha256": pointer.deployed.manifest.hex,
            "sequence": pointer.deployed.sequence,
        }
    return write_json(facts)


def next_pointer(before: Pointer | None, release: Release, manifest: Digest) -> Pointer:
    """Say what the destination is to remember once ``release`` is deployed."""
    deployed = Deployed(release=release.directory, manifest=manifest, sequence=release.sequence)
    return Pointer(deployed=deployed, highest=max(release.sequence, highest_of(before)))


def highest_of(pointer: Pointer | None) -> int:
    """Give the highest sequence that a destination remembers; 0 where it remembers nothing."""
    return pointer.highest if pointer else 0


def plan_pointer(before: Pointer | None, after: Pointer, name: str) -> Step:
    """Say whether what the destination remembers is to change, once ``name`` is deployed."""
    if before == after:
        return Step(kind=Kind.POINTER, name=name, state=State.PRESENT)
    detail = f"{before.deployed.release if before and before.deployed else 'nothing'} before"
    return Step(kind=Kind.POINTER, name=name, state=State.TO_DO, detail=detail)


def remember_sequence(store: ObjectStore, key: str, release: Release, *, judged: int) -> None:
    """Raise the highest sequence before a release runs: no crash opens the way for an older one.

    Args:
        store: Where the pointer lies.
        key: Its key.
        release: The one that is about to be installed.
        judged: The highest sequence that its plan was judged by.

    Raises:
        StaleError: A newer one was installed since its plan was made.
    """
    before = _unchanged(store, key, release, judged)
    if highest_of(before) < release.sequence:
        deployed = before.deployed if before else None
        raised = Pointer(deployed=deployed, highest=release.sequence)
        store.replace(key, encode_pointer(raised))


def point(store: ObjectStore, key: str, release: Release, manifest: Digest, *, judged: int) -> None:
    """Remember that a release is deployed; the arguments as for ``remember_sequence``.

    Raises:
        StaleError: A newer one was installed since its plan was made.
    """
    before = _unchanged(store, key, release, judged)
    store.replace(key, encode_pointer(next_pointer(before, release, manifest)))


def _unchanged(store: ObjectStore, key: str, release: Release, judged: int) -> Pointer | None:
    """Read what a destination remembers, and judge a release by it again."""
    now = read_pointer(store, key)
    if highest_of(now) > max(judged, release.sequence):
        raise StaleError(
            f"{release.directory}: sequence {release.sequence}, and {highest_of(now)} was "
            "deployed here since the plan was made",
            hint="somebody else publishes here too; make a new plan",
        )
    return now


def check_staleness(
    manifest: Manifest, before: Pointer | None, allowances: Allowances, *, now: str
) -> tuple[str, ...]:
    """Refuse a release that is expired or older than what was deployed, unless that is allowed.

    Args:
        manifest: A trusted one.
        before: What the destination remembers.
        allowances: What a person allows.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.

    Returns:
        What was allowed and needed to be, in words, for the receipt.

    Raises:
        StaleError: It is stale and that was not allowed by name.
    """
    used = []
    release = manifest.release
    highest = highest_of(before)
    if release.sequence < highest:
        if allowances.rollback != release.sequence:
            raise StaleError(
                f"{release.directory}: sequence {release.sequence}, expected {highest} or higher, "
                "which was deployed here",
                hint=f"to go back on purpose: --allow-rollback {release.sequence}",
            )
        used.append(f"rollback to sequence {release.sequence} below {highest}")
    if release.expires is not None and now >= release.expires:
        if not allowances.expired_reason:
            check_expiry(manifest, now=now)
        used.append(f"expired at {release.expires}: {allowances.expired_reason}")
    return tuple(used)
