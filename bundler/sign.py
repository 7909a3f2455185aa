"""Make keys, and sign a release with one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.digest import Digest
from bundler.errors import CheckError, ConflictError, MalformedError
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from bundler.model_signature import (
    MAX_MODEL_SIGNATURE_BYTES,
    model_signature_name,
    model_statement,
)
from bundler.provenance import provenance_name, provenance_statement
from bundler.release import (
    MAX_SIGNATURE_BYTES,
    read_agreed,
    read_sums_file,
    signature_name,
)
from bundler.release_files import shown
from bundler.signing.keys import PublicKey, new_key_pair, read_public_key
from bundler.signing.signers import Signer
from bundler.signing.sigstore_bundle import (
    MAX_BUNDLE_BYTES,
    attestation_bundle,
    message_bundle,
    message_bundle_name,
    read_attestation_bundle,
    read_message_bundle,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedRelease:
    """The small files of a release, as they were read to be signed; they agree with each other.

    Attributes:
        directory: Where they lie, and the signatures will.
        sums_bytes: SHA256SUMS.
        sums: What it says.
        manifest: What every archive holds.
    """

    directory: Path
    sums_bytes: bytes
    sums: Mapping[str, Digest]
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class _Statement:
    """An in-toto statement that is signed beside SHA256SUMS; ``limit`` is its file's, in bytes."""

    name: str
    content: bytes
    limit: int


def create_keys(private_path: Path, public_path: Path, passphrase: bytes | None) -> PublicKey:
    """Write a new key pair to two files: the private half for its owner's eyes only (0600).

    Args:
        private_path: Where the private half goes.
        public_path: Where the public half goes, which travels to every operator.
        passphrase: What the private half gets encrypted with; None leaves it open.

    Raises:
        ConflictError: One of the files is there already.
        MalformedError: The passphrase is empty or too long.
    """
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise ConflictError(
                f"{shown(path)}: expected no such file, got one; keys are never overwritten",
                hint="give another name, or move the old key away",
            )
    private_pem, public_pem = new_key_pair(passphrase)
    atomic_write_bytes(private_path, private_pem, mode=0o600)
    atomic_write_bytes(public_path, public_pem)
    return read_public_key(public_pem, name=str(public_path))


def read_unsigned(directory: Path) -> UnsignedRelease:
    """Read what is to be signed: SHA256SUMS and MANIFEST.json, and no archive.

    Raises:
        NotFoundError: One of them is not there.
        MalformedError, ContentError: They are not a release's, or disagree.
    """
    sums_bytes = read_sums_file(directory)
    manifest_bytes = read_limited(directory / MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    sums, manifest = read_agreed(directory, sums_bytes, manifest_bytes)
    return UnsignedRelease(directory=directory, sums_bytes=sums_bytes, sums=sums, manifest=manifest)


def sign_release(directory: Path, signer: Signer) -> Path:
    """Read a release's small files and sign them; give the file with the signature that counts.

    Raises:
        BundleError: As ``read_unsigned`` and ``add_signatures`` say.
    """
    return add_signatures(read_unsigned(directory), signer)[-1]


def add_signatures(release: UnsignedRelease, signer: Signer) -> tuple[Path, ...]:
    """Add a key's signatures to a release; nothing that is there already changes.

    Several may sign, on machines of their own, each with a copy of the two small files. All
    signatures are made and verified before the first is written, and the one that counts is
    written last: a run that was killed leaves no release that looks signed, and the next one
    writes what is missing.

    Returns:
        The key's files: Sigstore bundle, provenance, one signature a checkpoint, and in the end
        the plain signature of SHA256SUMS.

    Raises:
        ConflictError: One of them is there already, and is not this key's for this release.
        CheckError: A new signature does not hold.
        BundleError: The key cannot be used.
    """
    public = signer.public
    statements = tuple(_statements(release.manifest, release.sums, public.key8))
    signature = _existing_signature(release, public) or _sign(signer, release.sums_bytes)
    bundle = message_bundle(public, Digest.of(release.sums_bytes), signature)
    made = {message_bundle_name(public.key8): bundle}
    for statement in statements:
        path = release.directory / statement.name
        if not _is_there(path, public, statement):
            made[path.name] = attestation_bundle(public, statement.content, signer.sign)
    made[signature_name(public.key8)] = signature
    for name, content in made.items():
        path = release.directory / name
        if not os.path.lexists(path):
            atomic_write_bytes(path, content)
    names = [message_bundle_name(public.key8), *(statement.name for statement in statements)]
    return tuple(release.directory / name for name in (*names, signature_name(public.key8)))


def _statements(manifest: Manifest, sums: Mapping[str, Digest], key8: str) -> Iterator[_Statement]:
    provenance = provenance_statement(manifest, sums)
    yield _Statement(provenance_name(key8), provenance, MAX_BUNDLE_BYTES)
    for checkpoint in manifest.checkpoints:
        name, content = model_signature_name(checkpoint, key8), model_statement(checkpoint)
        yield _Statement(name, content, MAX_MODEL_SIGNATURE_BYTES)


def _sign(signer: Signer, content: bytes) -> bytes:
    signature = signer.sign(content)
    if not signer.public.verify(signature, content):
        raise CheckError(
            f"key {signer.public.key8}: the signature just made does not hold, so nothing was "
            "written"
        )
    return signature


def _existing_signature(release: UnsignedRelease, public: PublicKey) -> bytes | None:
    """Give the signature of SHA256SUMS that is there already, so that both its files have one."""
    found = None
    path = release.directory / message_bundle_name(public.key8)
    if os.path.lexists(path):
        content = read_limited(path, limit=MAX_BUNDLE_BYTES)
        with _taken_if_malformed(path):
            bundle = read_message_bundle(content, shown(path))
        if not bundle.holds(public, release.sums_bytes):
            raise _another(path)
        found = bundle.signature
    path = release.directory / signature_name(public.key8)
    if os.path.lexists(path):
        found = read_limited(path, limit=MAX_SIGNATURE_BYTES)
        if not public.verify(found, release.sums_bytes):
            raise _another(path)
    return found


def _is_there(path: Path, public: PublicKey, statement: _Statement) -> bool:
    """Say whether a statement was signed already; raises ConflictError where another was."""
    if not os.path.lexists(path):
        return False
    content = read_limited(path, limit=statement.limit)
    with _taken_if_malformed(path):
        bundle = read_attestation_bundle(content, shown(path), limit=statement.limit)
    if bundle.statement != statement.content or not bundle.holds(public):
        raise _another(path)
    return True


@contextmanager
def _taken_if_malformed(path: Path) -> Iterator[None]:
    """Take what is no signature at all for what it is: a name that is taken."""
    try:
        yield
    except MalformedError as error:
        raise _another(path) from error


def _another(path: Path) -> ConflictError:
    return ConflictError(
        f"{shown(path)}: expected no file or this key's signature of this release, got another",
        hint="it is of an older build or by another key; move it away, then sign again",
    )
