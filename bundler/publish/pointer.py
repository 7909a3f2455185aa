"""Which release is deployed at a destination, and whether another may follow it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bundler.digest import Digest
from bundler.errors import MalformedError, StaleError
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.manifest import Manifest, Release
from bundler.reference import file_name
from bundler.staleness import check_created, check_expiry, is_expired

MAX_POINTER_BYTES = 64 << 10


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
    """What one place of a destination remembers.

    Attributes:
        deployed: What was deployed last, to the end; None where nothing ever was.
        highest: The highest sequence that was ever begun to be installed.
        trust_version: The highest version of a trust file that ever judged one of them; 0 where
            only given keys did.
    """

    deployed: Deployed | None
    highest: int
    trust_version: int = 0

    def __post_init__(self) -> None:
        if self.deployed is not None and self.deployed.sequence > self.highest:
            raise ValueError(
                f"sequence: expected {self.highest} or lower, as highest, "
                f"got {self.deployed.sequence}"
            )

    def __str__(self) -> str:
        name = self.deployed.release if self.deployed else "no release"
        trust = f", trust file {self.trust_version}" if self.trust_version else ""
        return f"{name} (highest {self.highest}{trust})"


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


def decode_pointer(content: bytes, *, name: str) -> Pointer:
    """Read what one place remembers.

    Raises:
        MalformedError: It is not what we write, to the last field.
    """
    table = read_json(content, name=name, limit=MAX_POINTER_BYTES).table()
    table.integer("formatVersion", 1, 1)
    deployed = None
    if "release" in table:
        deployed = Deployed(
            release=table.parse("release", file_name),
            manifest=table.parse("manifestSha256", Digest),
            sequence=table.integer("sequence", 1, MAX_INTEGER),
        )
    highest = table.integer("highest", 1, MAX_INTEGER)
    trust_version = table.integer("trustVersion", 0, MAX_INTEGER, 0)
    table.close()
    return table.explain(
        lambda: Pointer(deployed=deployed, highest=highest, trust_version=trust_version)
    )


@contextmanager
def blaming_others(name: str) -> Iterator[None]:
    """Say of what one place holds and we never wrote how to go on."""
    try:
        yield
    except MalformedError as error:
        raise MalformedError(
            str(error),
            hint=f"somebody else wrote {name}, or a newer version of this command: find out who; "
            "where it is damaged, delete it, and publish what is deployed again: the other of "
            "bucket and cluster remembers the sequence, too",
        ) from error


def encode_pointer(pointer: Pointer) -> bytes:
    """Give the bytes of a pointer."""
    facts: dict[str, object] = {"formatVersion": 1, "highest": pointer.highest}
    if pointer.deployed is not None:
        facts |= {
            "release": pointer.deployed.release,
            "manifestSha256": pointer.deployed.manifest.hex,
            "sequence": pointer.deployed.sequence,
        }
    if pointer.trust_version:
        facts["trustVersion"] = pointer.trust_version
    return write_json(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A number below which a destination takes nothing, and who says so.

    Attributes:
        number: The highest that was ever there; 0 for none.
        said_by: The places that remember it.
        places: All places that remember something, to be looked at where it is wrong.
    """

    number: int = 0
    said_by: tuple[str, ...] = ()
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        verb = "remember" if len(self.said_by) > 1 else "remembers"
        return f", as {' and '.join(self.said_by)} {verb}" if self.said_by else ""

    def cure(self, what: str) -> str:
        """Say what to do where nobody ever deployed ``what`` here."""
        if not self.places:
            return ""
        return (
            f"; if {what} was never here, somebody wrote that number: find out who; it is "
            f"remembered in {' and in '.join(self.places)}, and TRUST.md says what then"
        )


def check_staleness(
    manifest: Manifest, highest: Mark, allowances: Allowances, *, now: str
) -> tuple[str, ...]:
    """Refuse a release that is stale, unless that is allowed by name.

    What is allowed for one reason stays refused for another. Nothing allows one from the future.

    Args:
        manifest: A trusted one.
        highest: The highest sequence that was deployed there.
        allowances: What a person allows.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.

    Returns:
        What was allowed and needed to be, in words, for the receipt.

    Raises:
        StaleError: It is expired, older than what was deployed, or from the future.
    """
    release = manifest.release
    check_created(manifest, now=now)
    used = []
    if release.sequence < highest.number:
        _check_rollback(release, highest, allowances)
        used.append(f"rollback to sequence {release.sequence} below {highest.number}")
    if is_expired(manifest, now=now):
        if not allowances.expired_reason:
            check_expiry(manifest, now=now)
        used.append(f"expired at {release.expires}: {allowances.expired_reason}")
    return tuple(used)


def check_trust_version(version: int, remembered: Mark) -> None:
    """Refuse a trust file that is older than one that judged here: its keys may be retired.

    Args:
        version: Of the trust file that judged a release; 0 where given keys did: any of them may
            be one that a trust file retired.
        remembered: The highest version that the destination remembers.

    Raises:
        StaleError: It is older, or there is none where there was one before.
    """
    if version < remembered.number:
        got = f"version {version}" if version else "none, but keys"
        raise StaleError(
            f"trust file: expected version {remembered.number} or higher, "
            f"which judged what was deployed here{remembered}, got {got}",
            hint="a key may have been retired since; use the newest trust file: --trust FILE"
            + remembered.cure(f"version {remembered.number}"),
        )


def _check_rollback(release: Release, highest: Mark, allowances: Allowances) -> None:
    if allowances.rollback == release.sequence:
        return
    problem = (
        f"{release.directory}: sequence {release.sequence}, expected {highest.number} or higher, "
        f"which was deployed here{highest}"
    )
    if allowances.rollback is not None:
        problem += f"; --allow-rollback {allowances.rollback} allows another sequence than its own"
    hint = f"to go back on purpose: --allow-rollback {release.sequence}"
    raise StaleError(problem, hint=hint + highest.cure(f"sequence {highest.number}"))
