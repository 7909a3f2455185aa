"""What signers add to a release beside the signatures that count, and what travels with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

from bundler.digest import Digest
from bundler.errors import BundleError, MalformedError
from bundler.jsontext import read_json
from bundler.manifest import Manifest
from bundler.model_signature import model_signature_name, model_statement
from bundler.provenance import provenance_name, provenance_statement
from bundler.reference import file_name
from bundler.release import (
    MAX_SIGNATURE_BYTES,
    TrustedRelease,
    is_signature_name,
    signature_name,
)
from bundler.signing.keys import PublicKey
from bundler.signing.sigstore_bundle import (
    MAX_BUNDLE_BYTES,
    message_bundle_name,
    read_attestation_bundle,
    read_message_bundle,
)
from bundler.sums import SUMS_NAME
from bundler.trust import TRUST_FOLDER, is_trust_path, proven_chain, root_name

# Of files that decide nothing, no more than this is read into memory and copied on.
MAX_CARRIED_BYTES = 64 << 20
# Of all versions of a trust file together, some hundred; to prove a MiB of them takes seconds.
MAX_CHAIN_BYTES = 512 << 10
# What a bundle may have beside a statement in base64, in bytes: nobody has verified it yet.
_BESIDE_STATEMENT = 4 << 10
_COMPARED = ("_type", "predicateType", "subject")
_BUNDLE_NAME = re.compile(
    rf"(?:{re.escape(SUMS_NAME)}|provenance)\.[0-9a-f]{{8}}\.sigstore\.json"
    r"|(.+)\.[0-9a-f]{8}\.oms\.json"
)


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A Sigstore bundle that a key adds, for other people's tools. It decides nothing.

    Attributes:
        name: What it is called.
        statement: Gives the in-toto statement in it; None where it is over SHA256SUMS itself.
    """

    name: str
    statement: Callable[[], bytes] | None = None

    def limit(self) -> int:
        """Give the most bytes that it may have."""
        if self.statement is None:
            return MAX_BUNDLE_BYTES
        return max(MAX_BUNDLE_BYTES, 2 * len(self.statement()) + _BESIDE_STATEMENT)

    def check(self, key: PublicKey, sums_bytes: bytes, content: bytes, name: str) -> None:
        """Hold what lies under its name against what ``key`` would sign.

        A statement may say more, as a newer builder's does: what it is about must be the same.

        Args:
            key: Whose it is to be.
            sums_bytes: SHA256SUMS of the release.
            content: What lies there.
            name: What to call it in an error.

        Raises:
            MalformedError: It is no such bundle, another key's, or about another release.
        """
        if self.statement is None:
            if not read_message_bundle(content, name).holds(key, sums_bytes):
                raise MalformedError(f"{name}: expected key {key.key8}'s signature of {SUMS_NAME}")
            return
        limit = self.limit()
        bundle = read_attestation_bundle(content, name, limit=limit)
        if not bundle.holds(key):
            raise MalformedError(f"{name}: expected a statement that key {key.key8} signed")
        if _compared(bundle.statement, name, limit) != _compared(self.statement(), name, limit):
            raise MalformedError(f"{name}: expected a statement about this release, got another")


def added_files(manifest: Manifest, sums: Mapping[str, Digest], key8: str) -> Iterator[AddedFile]:
    """Give what a key adds beside its signature of SHA256SUMS, in the order of writing."""
    yield AddedFile(message_bundle_name(key8))
    statement = partial(provenance_statement, manifest, sums)
    yield AddedFile(provenance_name(key8), cache(statement))
    for checkpoint in manifest.checkpoints:
        name = model_signature_name(checkpoint, key8)
        yield AddedFile(name, cache(partial(model_statement, checkpoint)))


def is_added_path(path: str) -> bool:
    """Say whether what travels with a release, and is not signed by its sums, is called so."""
    found = _BUNDLE_NAME.fullmatch(path)
    if found is None:
        return is_signature_name(path) or is_trust_path(path)
    return found[1] is None or _is_file_name(found[1])


def added_problems(release: TrustedRelease) -> tuple[str, ...]:
    """Name each added file that does not hold, and why.

    Only those of keys that vouch for the release are read: nobody can judge others. One that is
    not there is no finding.

    Returns:
        One line each, for people.
    """
    problems: list[str] = []
    for key, added in _present(release, release.files.names(), release.signers):
        try:
            _read_checked(release, key, added)
        except BundleError as error:
            problems.append(str(error))
    return tuple(problems)


def carry_along(
    release: TrustedRelease, note: Callable[[str], None] | None = None
) -> TrustedRelease:
    """Read all that travels with a release and holds, so that it can be put where the release goes.

    That is: the versions of the trust file, if each follows from the one before, those before the
    operator's too; and what the keys that vouch left, and those that the newest version names,
    since other readers may ask for more signatures, or other tools.

    Args:
        release: Read once: what has been carried along already stays as it is.
        note: Told of what does not travel, and why.
    """
    if release.carried is not None:
        return release
    problems: list[str] = []
    carried = dict(release.signature_files)
    room = MAX_CARRIED_BYTES
    for path, read in _all_that_travels(release, problems):
        try:
            content = read()
        except BundleError as error:
            problems.append(f"{error}; it is not copied")
            continue
        room -= len(content)
        if room < 0:
            problems.append(
                f"{release.files.shown(path)}: more than {MAX_CARRIED_BYTES} bytes of such files; "
                "this one and those after it are not copied"
            )
            break
        carried.setdefault(path, content)
    if note is not None:
        for problem in problems:
            note(problem)
    return replace(release, carried=carried)


_Read = Callable[[], bytes]


def _all_that_travels(release: TrustedRelease, problems: list[str]) -> Iterator[tuple[str, _Read]]:
    """Give what there is by its path, each read and judged when it is asked for."""
    roots: Mapping[int, bytes] = {root.version: root.content for root in release.trust.newer}
    named: tuple[PublicKey, ...] = release.trust.signers.keys
    try:
        chain = proven_chain(release.trust, release.files, limit=MAX_CHAIN_BYTES)
    except BundleError as error:
        problems.append(f"{error}; so only versions that yours proves are copied")
    else:
        roots, named = (chain.contents, chain.signers.keys) if chain else (roots, named)
    for version, content in roots.items():
        yield f"{TRUST_FOLDER}/{root_name(version)}", partial(bytes, content)
    others = [key for key in named if key not in release.signers]
    names = set(release.files.names())
    for key in others:
        if signature_name(key.key8) in names:
            yield signature_name(key.key8), partial(_read_signature, release, key)
    for key, added in _present(release, names, (*release.signers, *others)):
        yield added.name, partial(_read_checked, release, key, added)


def _present(
    release: TrustedRelease, names: Collection[str], keys: Iterable[PublicKey]
) -> Iterator[tuple[PublicKey, AddedFile]]:
    for key in keys:
        for added in added_files(release.manifest, release.sums, key.key8):
            if added.name in names:
                yield key, added


def _read_signature(release: TrustedRelease, key: PublicKey) -> bytes:
    name = signature_name(key.key8)
    content = release.files.read(name, limit=MAX_SIGNATURE_BYTES)
    if not key.verify(content, release.sums_bytes):
        shown = release.files.shown(name)
        raise MalformedError(f"{shown}: expected key {key.key8}'s signature of {SUMS_NAME}")
    return content


def _read_checked(release: TrustedRelease, key: PublicKey, added: AddedFile) -> bytes:
    content = release.files.read(added.name, limit=added.limit())
    added.check(key, release.sums_bytes, content, release.files.shown(added.name))
    return content


def _compared(statement: bytes, name: str, limit: int) -> list[object]:
    """Give what a newer builder writes too."""
    fields = read_json(statement, name=name, limit=limit).value
    return [fields.get(key) for key in _COMPARED] if isinstance(fields, dict) else [fields]


def _is_file_name(text: str) -> bool:
    try:
        file_name(text)
    except ValueError:
        return False
    return True
