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
class Pointer:
    """What a destination remembers.

    Attributes:
        release: Name of the release that is deployed.
        manifest: Digest of its manifest.
        sequence: Its sequence.
        highest: The highest sequence that was ever deployed.
    """

    release: str
    manifest: Digest
    sequence: int
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
    return Pointer(
        release=table.text("release"),
        manifest=table.parse("manifestSha256", Digest),
        sequence=table.integer("sequence", 1, MAX_INTEGER),
        highest=table.integer("highest", 1, MAX_INTEGER),
    )


def encode_pointer(pointer: Pointer) -> bytes:
    """Give the bytes of a pointer."""
    return write_json(
        {
            "formatVersion": 1,
            "release": pointer.release,
            "manifestSha256": pointer.manifest.hex,
            "sequence": pointer.sequence,
            "highest": pointer.highest,
        }
    )


def next_pointer(before: Pointer | None, release: Release, manifest: Digest) -> Pointer:
    """Say what the destination is to remember once ``release`` is deployed."""
    highest = max(release.sequence, before.highest if before else 0)
    return Pointer(
        release=release.directory, manifest=manifest, sequence=release.sequence, highest=highest
    )


def plan_pointer(before: Pointer | None, after: Pointer) -> Step:
    """Say whether what the destination remembers is to change."""
    if before == after:
        return Step(kind=Kind.POINTER, name=after.release, state=State.PRESENT)
    detail = f"{before.release if before else 'nothing'} before"
    return Step(kind=Kind.POINTER, name=after.release, state=State.TO_DO, detail=detail)


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
    highest = before.highest if before else 0
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
