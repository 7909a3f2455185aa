"""Make keys, and sign a release with one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.added_files import AddedFile, added_files
from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.digest import Digest
from bundler.errors import CheckError, ConflictError, MalformedError
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
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
    attestation_bundle,
    message_bundle,
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
    writes what is missing. A statement about this release that the key signed before stays, also
    where another version of this program would say more in it, or less.

    Returns:
        The key's files: Sigstore bundle, provenance, one signature a checkpoint, and in the end
        the plain signature of SHA256SUMS.

    Raises:
        ConflictError: One of them is there already, and is not this key's for this release.
        CheckError: A new signature does not hold.
        BundleError: The key cannot be used.
    """
    public = signer.public
    message, *attested = added_files(release.manifest, release.sums, public.key8)
    signature = _existing_signature(release, public, message) or _sign(signer, release.sums_bytes)
    made = {message.name: message_bundle(public, Digest.of(release.sums_bytes), signature)}
    for added in attested:
        if added.statement and _existing(release, public, added) is None:
            made[added.name] = attestation_bundle(public, added.statement(), signer.sign)
    made[signature_name(public.key8)] = signature
    for name, content in made.items():
        path = release.directory / name
        if not os.path.lexists(path):
            atomic_write_bytes(path, content)
    names = (message.name, *(added.name for added in attested), signature_name(public.key8))
    return tuple(release.directory / name for name in names)


def _sign(signer: Signer, content: bytes) -> bytes:
    signature = signer.sign(content)
    if not signer.public.verify(signature, content):
        raise CheckError(
            f"key {signer.public.key8}: the signature just made does not hold, so nothing was "
            "written"
        )
    return signature


def _existing_signature(
    release: UnsignedRelease, public: PublicKey, message: AddedFile
) -> bytes | None:
    """Give the signature of SHA256SUMS that is there already, so that both its files have one."""
    wrapped = _existing(release, public, message)
    path = release.directory / signature_name(public.key8)
    if os.path.lexists(path):
        found = read_limited(path, limit=MAX_SIGNATURE_BYTES)
        if not public.verify(found, release.sums_bytes):
            raise _another(path)
        return found
    return read_message_bundle(wrapped, message.name).signature if wrapped is not None else None


def _existing(release: UnsignedRelease, public: PublicKey, added: AddedFile) -> bytes | None:
    """Give an added file of this key that is there already; ConflictError where another is."""
    path = release.directory / added.name
    if not os.path.lexists(path):
        return None
    content = read_limited(path, limit=added.limit())
    try:
        added.check(public, release.sums_bytes, content, shown(path))
    except MalformedError as error:
        raise _another(path) from error
    return content


def _another(path: Path) -> ConflictError:
    return ConflictError(
        f"{shown(path)}: expected no file or this key's signature of this release, got another",
        hint="it is of an older build or by another key; move it away, then sign again",
    )
