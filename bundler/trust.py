"""Whom a person trusts to sign releases: given keys, or a trust file. Never what a release says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bundler.errors import MalformedError, StaleError, UntrustedError
from bundler.release_files import ReleaseFiles
from bundler.signing.keys import PublicKey
from bundler.signing.quorum import Quorum
from bundler.signing.tuf_roots import MAX_ROOT_BYTES, Root, read_root

TRUST_FOLDER = "trust"
_MAX_ROOTS = 1024
_END_OF_TIME = "9999-12-31T23:59:59Z"
_ROOT_NAME = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose signatures on a release count, and how many must hold.

    Attributes:
        signers: The keys, and the threshold.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``, to judge the trust file's expiry by; without
            a time every one is expired.
        given: The trust file that the person gave; None where keys were given.
        newer: The versions after it that a release brought; the last one names ``signers``.
    """

    signers: Quorum
    now: str = _END_OF_TIME
    given: Root | None = None
    newer: tuple[Root, ...] = ()

    @classmethod
    def of_keys(cls, keys: Iterable[PublicKey], threshold: int = 1) -> Trust:
        """Trust some keys; no key trusts nobody.

        Raises:
            MalformedError: The threshold is more than there are distinct keys.
        """
        return cls(signers=Quorum.of(keys, threshold, name="--threshold"))

    @classmethod
    def of_root(cls, root: Root, *, now: str) -> Trust:
        """Trust whom a trust file names; its expiry is judged when it is used.

        Raises:
            UntrustedError: Fewer of its holders signed it than it demands.
        """
        require_signed(root, root)
        return cls(signers=root.signers, now=now, given=root)

    def __bool__(self) -> bool:
        """Whether there is anybody to trust."""
        return bool(self.signers.keys)

    @property
    def root(self) -> Root | None:
        """The version of the trust file that judges; None where keys were given."""
        return self.newer[-1] if self.newer else self.given

    @property
    def version(self) -> int:
        """Its number, from 1; 0 where keys were given."""
        return self.root.version if self.root else 0

    @property
    def news(self) -> str | None:
        """Say for people that a release brought a newer trust file; None where it did not."""
        if self.given is None or not self.newer:
            return None
        return (
            f"the release brings version {self.version} of the trust file, which judged it; "
            f"{self.given.name} is version {self.given.version}: "
            f"bundle trust update {self.given.name} RELEASE"
        )


NOBODY = Trust(signers=Quorum(()))


def root_name(version: int) -> str:
    """Name the file of a version: in a release, and beside the other versions."""
    return f"{version}.root.json"


def root_version(name: str) -> int | None:
    """Give the version that a file is called after; None where it is called otherwise."""
    found = _ROOT_NAME.fullmatch(name)
    return int(found[1]) if found else None


def is_trust_path(path: str) -> bool:
    """Say whether a release's version of the trust file has such a path in it."""
    folder, _, name = path.rpartition("/")
    return folder == TRUST_FOLDER and root_version(name) is not None


def catch_up(trust: Trust, files: ReleaseFiles) -> Trust:
    """Go from a trust file on to the newest one that a release brings, and judge its expiry.

    Given keys stay what they are, whatever the release brings.

    Raises:
        UntrustedError: A version is missing, is another than the operator has, or too few of the
            holders before and after it signed it.
        MalformedError: One is too long, or is no trust file.
        StaleError: The newest is expired.
    """
    if trust.given is None:
        return trust
    newer = follow(trust.given, files.inside(TRUST_FOLDER))
    newest = newer[-1] if newer else trust.given
    if trust.now >= newest.expires:
        raise StaleError(
            f"{newest.name}: version {newest.version} expired at {newest.expires}, and it is "
            f"{trust.now}",
            hint="get a newer trust file from the vendor, or a release that brings one; "
            "--allow-expired is for releases only",
        )
    return replace(trust, signers=newest.signers, newer=newer)


def follow(root: Root, folder: ReleaseFiles | None, *, last: int | None = None) -> tuple[Root, ...]:
    """Give every version after ``root`` that lies in a folder, each proven by the one before it.

    Args:
        root: A trusted one.
        folder: Where to look; None has no version.
        last: The version to stop at, which must be there; all that are there if not given.

    Source:
        The Update Framework specification 1.0.34, section 5.3: each version by the thresholds of
        the one before it and of itself, none left out; only the last one's expiry counts.

    Raises:
        UntrustedError, MalformedError: As for ``catch_up``.
    """
    return tuple(_following(root, folder, last=last)) if folder else ()


def versions_in(folder: ReleaseFiles) -> list[int]:
    """Give the versions that files are called after, sorted.

    Raises:
        MalformedError: There are too many.
    """
    versions = sorted(filter(None, map(root_version, folder.names())))
    if len(versions) > _MAX_ROOTS:
        raise MalformedError(
            f"{folder.shown()}: expected at most {_MAX_ROOTS} trust files, got {len(versions)}"
        )
    return versions


def read_version(folder: ReleaseFiles, version: int) -> Root:
    """Read the version that a file is called after, whoever signed it.

    Raises:
        UntrustedError: It is another version.
        NotFoundError, MalformedError: It is not there, or is no trust file.
    """
    name = root_name(version)
    shown = folder.shown(name)
    root = read_root(folder.read(name, limit=MAX_ROOT_BYTES), name=shown)
    if root.version != version:
        raise UntrustedError(f"{shown}: expected version {version}, got version {root.version}")
    return root


def require_signed(root: Root, by: Root) -> None:
    """Require that as many holders of ``by`` signed ``root`` as that version demands.

    Raises:
        UntrustedError: Fewer did; the message says who, and how many more of whom are needed.
    """
    tally = root.tally(by)
    if not tally:
        whose = f"the {len(by.holders.keys)} keys of version {by.version}"
        raise UntrustedError(
            f"{root.name}: version {root.version}: expected signatures by {tally.threshold} of "
            f"{whose}, got {len(tally.signed)}: {tally}",
            hint="not all have signed yet, or somebody changed it: bundle trust show says who did",
        )


def require_same(root: Root, brought: Root) -> None:
    """Require that a file says what ``root``, the operator's or one proven by it, says.

    Raises:
        UntrustedError: It says something else.
    """
    if brought.signed_bytes != root.signed_bytes:
        raise UntrustedError(
            f"{brought.name}: expected the version {root.version} that {root.name} holds, got "
            "another of that number",
            hint="one of the two is not the vendor's; ask the vendor which",
        )


def require_next(folder: ReleaseFiles, before: int, version: int) -> None:
    """Require that no version is left out between two that are there.

    Raises:
        UntrustedError: One is.
    """
    if version != before + 1:
        raise UntrustedError(
            f"{folder.shown(root_name(before + 1))}: expected this version after {before}, got "
            f"{version} next",
            hint="no version may be left out; copy the directory again, or ask the vendor for it",
        )


def read_next(folder: ReleaseFiles, before: Root, version: int) -> Root:
    """Read the version after one, signed by enough of the holders of both.

    Raises:
        UntrustedError, MalformedError: As for ``catch_up``.
    """
    require_next(folder, before.version, version)
    root = read_version(folder, version)
    require_signed(root, before)
    require_signed(root, root)
    return root


def _following(root: Root, folder: ReleaseFiles, *, last: int | None = None) -> Iterator[Root]:
    """Give each version after ``root`` as soon as it is proven; the arguments as for ``follow``."""
    versions = versions_in(folder)
    if root.version in versions:
        require_same(root, read_version(folder, root.version))
    wanted = versions if last is None else range(root.version + 1, last + 1)
    before = root
    for version in (version for version in wanted if version > root.version):
        before = read_next(folder, before, version)
        yield before
