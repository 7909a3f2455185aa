"""What signers add to a release beside the signatures that count."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from bundler.digest import Digest
from bundler.errors import BundleError, MalformedError
from bundler.jsontext import read_json
from bundler.manifest import Manifest
from bundler.model_signature import model_signature_name, model_statement
from bundler.provenance import provenance_name, provenance_statement
from bundler.reference import file_name
from bundler.release import TrustedRelease, is_signature_name
from bundler.signing.keys import PublicKey
from bundler.signing.sigstore_bundle import (
    MAX_BUNDLE_BYTES,
    message_bundle_name,
    read_attestation_bundle,
    read_message_bundle,
)
from bundler.sums import SUMS_NAME
from bundler.trust import is_trust_path

# What a bundle may have beside a statement in base64, in bytes: nobody has verified it yet.
_BESIDE_STATEMENT = 4 << 10
_COMPARED = ("_type", "predicateType", "subject")
_BUNDLE_NAME = re.compile(
    rf"(?:{re.escape(SUMS_NAME)}|provenance)\.[0-9a-f]{{8}}\.sigstore\.json"
    r"|(.+)\.[0-9a-f]{8}\.oms\.json"
)


class Statement:
    """An in-toto statement, made when it is first asked for, and once for all keys."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make

    def __call__(self) -> bytes:
        """Give it."""
        return self._content

    @cached_property
    def _content(self) -> bytes:
        return self._make()

    @cached_property
    def about(self) -> list[object]:
        """What of it must be the same in a statement of a newer builder."""
        return _compared(self._content, "own statement", len(self._content))


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A Sigstore bundle that a key adds, for other people's tools. It decides nothing.

    Attributes:
        name: What it is called.
        statement: Gives the in-toto statement in it; None where it is over SHA256SUMS itself.
    """

    name: str
    statement: Statement | None = None

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
        if _compared(bundle.statement, name, limit) != self.statement.about:
            raise MalformedError(f"{name}: expected a statement about this release, got another")


class AddedFiles:
    """What each key adds to one release beside its signature of SHA256SUMS.

    However many keys are asked about, each statement is made once, and only where it is needed.
    """

    def __init__(self, manifest: Manifest, sums: Mapping[str, Digest]) -> None:
        provenance = Statement(partial(provenance_statement, manifest, sums))
        self._named: list[tuple[Callable[[str], str], Statement]] = [(provenance_name, provenance)]
        for item in manifest.checkpoints:
            statement = Statement(partial(model_statement, item))
            self._named.append((partial(model_signature_name, item), statement))

    def of(self, key8: str) -> Iterator[AddedFile]:
        """Give what a key adds, in the order of writing."""
        yield AddedFile(message_bundle_name(key8))
        for name, statement in self._named:
            yield AddedFile(name(key8), statement)


def added_files(manifest: Manifest, sums: Mapping[str, Digest], key8: str) -> Iterator[AddedFile]:
    """Give what one key adds beside its signature of SHA256SUMS, in the order of writing."""
    return AddedFiles(manifest, sums).of(key8)


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
    for key, added in present(release, set(release.files.names()), release.signers):
        try:
            read_added(release, key, added)
        except BundleError as error:
            problems.append(str(error))
    return tuple(problems)


def present(
    release: TrustedRelease, names: Collection[str], keys: Iterable[PublicKey]
) -> Iterator[tuple[PublicKey, AddedFile]]:
    """Give what some keys added, of the names that are there."""
    every = AddedFiles(release.manifest, release.sums)
    for key in keys:
        for added in every.of(key.key8):
            if added.name in names:
                yield key, added


def read_added(release: TrustedRelease, key: PublicKey, added: AddedFile) -> bytes:
    """Read what a key added.

    Raises:
        MalformedError: It does not hold.
        BundleError: It cannot be read.
    """
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
