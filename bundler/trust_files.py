"""Make, change and sign trust files; bring their versions into a release, and out of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import atomic_write_bytes, make_directories, read_limited
from bundler.errors import CheckError, ConflictError, MalformedError, UntrustedError
from bundler.release_files import ReleaseDirectory, ReleaseFiles, shown
from bundler.signing.keys import PublicKey
from bundler.signing.quorum import Quorum, Tally
from bundler.signing.signers import Signer
from bundler.signing.tuf_roots import MAX_ROOT_BYTES, Root, read_root, write_root
from bundler.trust import (
    TRUST_FOLDER,
    Trust,
    catch_up,
    follow,
    read_version,
    require_signed,
    root_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far the signing of a version is.

    Attributes:
        root: The version.
        before: The version before it; None for the first one, and where it is not known.
    """

    root: Root
    before: Root | None

    @property
    def own(self) -> Tally:
        """Who of its own keys signed it."""
        return self.root.tally(self.root)

    @property
    def by_before(self) -> Tally | None:
        """Who of the keys of the version before signed it; None where that is not known."""
        return self.root.tally(self.before) if self.before else None

    @property
    def is_complete(self) -> bool | None:
        """Whether enough have signed; None where enough of its own did, and more is not known."""
        if not self.own or self.root.version == 1:
            return bool(self.own)
        return None if self.by_before is None else bool(self.by_before)


def read_root_file(path: Path) -> Root:
    """Read one version, whoever signed it.

    Raises:
        NotFoundError, MalformedError: There is none, or it is no trust file.
    """
    return read_root(read_limited(path.resolve(), limit=MAX_ROOT_BYTES), name=shown(path))


def read_standing(path: Path, before: Path | None = None) -> Standing:
    """Read a version and the one before it.

    Args:
        path: The version.
        before: The one before it; where not given, it is looked for beside ``path``.

    Raises:
        NotFoundError, MalformedError: One is not there or is no trust file, or ``before`` is
            another version.
    """
    root = read_root_file(path)
    beside = path.parent / root_name(root.version - 1)
    if before is None and root.version > 1 and beside != path and os.path.lexists(beside):
        before = beside
    earlier = read_root_file(before) if before else None
    if earlier is not None and earlier.version != root.version - 1:
        raise MalformedError(
            f"{earlier.name}: expected version {root.version - 1}, the one before {root.name}, got "
            f"version {earlier.version}"
        )
    return Standing(root=root, before=earlier)


def create_root(path: Path, keys: Sequence[PublicKey], threshold: int, expires: str) -> Root:
    """Write version 1, for its holders to sign.

    Raises:
        ConflictError: The file is there already.
        MalformedError: A key is given twice, or the threshold is more than there are keys.
    """
    if len(set(keys)) < len(keys):
        raise MalformedError(
            f"{shown(path)}: expected each key once, got one twice",
            hint="a key counts once, however many files it stands in",
        )
    quorum = Quorum.of(keys, threshold, name=shown(path))
    make_directories(path.parent)
    return _write_new(path, write_root(1, quorum, expires))


def next_root(path: Path, out: Path | None, expires: str, threshold: int | None) -> Root:
    """Write the version after a signed one, with the same keys, for all holders to sign.

    Args:
        path: The version before.
        out: Where the new one goes; where not given, beside it, called after its version.
        expires: UTC seconds, as ``2026-11-01T00:00:00Z``.
        threshold: A new one; the same if not given.

    Raises:
        ConflictError: The file is there already.
        UntrustedError: The version before is not signed by enough.
        MalformedError: It is not one that we write, or the threshold is more than there are keys.
    """
    before = read_root_file(path)
    require_signed(before, before)
    quorum = Quorum.of(_ours(before).keys, threshold or before.signers.threshold, name=before.name)
    version = before.version + 1
    out = out or path.parent / root_name(version)
    return _write_new(out, write_root(version, quorum, expires))


def add_key(path: Path, key: PublicKey, threshold: int | None) -> Root:
    """Add a key to a version that nobody signed yet.

    Raises:
        ConflictError: Somebody signed it, or the key is there.
        MalformedError: It is not one that we write.
    """
    root = _unsigned(path)
    if key in root.signers.keys:
        raise ConflictError(f"{root.name}: expected a new key, got {key.key8}, which is there")
    return _rewrite(path, root, [*root.signers.keys, key], threshold)


def remove_key(path: Path, key: PublicKey, threshold: int | None) -> Root:
    """Take a key out of a version that nobody signed yet; it may still have to sign that version.

    Raises:
        ConflictError: Somebody signed it.
        MalformedError: The key is not there, or the threshold is more than the keys that stay.
    """
    root = _unsigned(path)
    if key not in root.signers.keys:
        known = ", ".join(item.key8 for item in root.signers.keys)
        raise MalformedError(f"{root.name}: expected one of its keys ({known}), got {key.key8}")
    return _rewrite(path, root, [item for item in root.signers.keys if item != key], threshold)


def sign_root(path: Path, signer: Signer, before: Path | None = None) -> Standing:
    """Add a signature to a version; one by this key that holds is left as it is.

    Args:
        path: The version; it is replaced in one step, by a file with one more signature.
        signer: A holder of this version, or of the one before it.
        before: As for ``read_standing``.

    Raises:
        UntrustedError: The key is of neither.
        CheckError: The signature does not hold; nothing was written.
        BundleError: As ``read_standing`` and the signer say.
    """
    standing = read_standing(path, before)
    key = signer.public
    versions = [standing.root, *([standing.before] if standing.before else [])]
    holding = [version for version in versions if key in version.holders.keys]
    if not holding:
        raise UntrustedError(
            f"{standing.root.name}: expected a key of this version or of the one before it, got "
            f"{key.key8}",
            hint=_previous_hint(standing),
        )
    if all(key in standing.root.tally(version).signed for version in holding):
        return standing
    root = standing.root
    keyids = set().union(*(version.ids_of(key) for version in holding))
    content = root.with_signature(keyids, signer.sign(root.signed_bytes))
    signed = read_root(content, name=root.name)
    if not all(key in signed.tally(version).signed for version in holding):
        raise CheckError(
            f"{root.name}: the signature just made by {key.key8} does not hold, so it was not "
            "written"
        )
    atomic_write_bytes(path.resolve(), content)
    return Standing(root=signed, before=standing.before)


def attach_roots(path: Path, release: Path) -> list[Path]:
    """Put a version, and all before it, into a release, where operators' commands look for them.

    Args:
        path: The newest version; the others lie beside it, each called after its version.
        release: The release's directory; nothing else of it changes.

    Returns:
        The files that were written.

    Raises:
        UntrustedError: One is missing, or signed by too few.
        ConflictError: The release has another one of that version.
        NotFoundError, MalformedError: A file is not there, or is no trust file.
    """
    newest = read_root_file(path)
    folder = ReleaseDirectory(path.resolve().parent)
    first = read_version(folder, 1)
    require_signed(first, first)
    chain = [first, *follow(first, folder, last=newest.version)]
    if chain[-1].content != newest.content:
        raise ConflictError(
            f"{newest.name}: expected to be {chain[-1].name}, got a file that differs from it",
            hint="keep all versions in one directory, each called after its version",
        )
    there = release / TRUST_FOLDER
    if there.is_symlink():
        raise MalformedError(f"{shown(there)}: expected a directory, got a link")
    absent = [root for root in chain if _is_absent(there / root_name(root.version), root)]
    make_directories(there)
    for root in absent:
        atomic_write_bytes(there / root_name(root.version), root.content)
    return [there / root_name(root.version) for root in absent]


def update_root(path: Path, files: ReleaseFiles, *, now: str) -> tuple[Root, Root]:
    """Replace a trust file by the newest version that a release brings, in one step.

    Returns:
        The version that was there, and the one that is there now; the same where nothing is newer.

    Raises:
        UntrustedError, StaleError, MalformedError: As ``catch_up`` says; nothing was written.
    """
    given = read_root_file(path)
    newest = catch_up(Trust.of_root(given, now=now), files).root or given
    if newest.version > given.version:
        atomic_write_bytes(path.resolve(), newest.content)
    return given, newest


def _write_new(path: Path, content: bytes) -> Root:
    if os.path.lexists(path):
        raise ConflictError(
            f"{shown(path)}: expected no such file, got one; a version is never overwritten",
            hint="give another name with -o, or move it away",
        )
    atomic_write_bytes(path, content)
    return read_root(content, name=shown(path))


def _unsigned(path: Path) -> Root:
    root = read_root_file(path)
    if root.is_signed:
        raise ConflictError(
            f"{root.name}: expected a version that nobody signed yet, got one that somebody did",
            hint=f"to change the keys, make the next version: bundle trust rotate {root.name}",
        )
    _ours(root)
    return root


def _ours(root: Root) -> Quorum:
    """Refuse to write anew what another tool wrote and we would lose a part of."""
    if root.holders != root.signers:
        raise MalformedError(
            f"{root.name}: expected the same keys and threshold in the roles root and targets, got "
            "others; it can be used and signed, and changed by the tool that made it only"
        )
    return root.signers


def _rewrite(path: Path, root: Root, keys: Sequence[PublicKey], threshold: int | None) -> Root:
    quorum = Quorum.of(keys, threshold or root.signers.threshold, name=root.name)
    content = write_root(root.version, quorum, root.expires)
    atomic_write_bytes(path.resolve(), content)
    return read_root(content, name=root.name)


def _previous_hint(standing: Standing) -> str | None:
    if standing.before is not None or standing.root.version == 1:
        return None
    name = root_name(standing.root.version - 1)
    return f"a key of the version before may sign too: put {name} beside it, or give --before FILE"


def _is_absent(path: Path, root: Root) -> bool:
    if not os.path.lexists(path):
        return True
    if read_limited(path, limit=MAX_ROOT_BYTES) != root.content:
        raise ConflictError(
            f"{shown(path)}: expected no file or version {root.version} as {root.name} has it, got "
            "another",
            hint="it may have fewer signatures; move it away if it is not needed",
        )
    return False
