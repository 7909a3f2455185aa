"""Make keys, and sign a release with one."""

from __future__ import annotations

import os
from pathlib import Path

from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.errors import CheckError, ConflictError
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from bundler.release import (
    MAX_SIGNATURE_BYTES,
    read_agreed,
    read_sums_file,
    shown,
    signature_name,
)
from bundler.signing.keys import PrivateKey, PublicKey, new_key_pair, read_public_key
from bundler.sums import SUMS_NAME


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


def sign_release(directory: Path, private_key: PrivateKey) -> Path:
    """Add a signature to a release; needs SHA256SUMS and MANIFEST.json, not the archives.

    Nothing else in the directory changes, so that several may sign, on machines of their own. A
    signature by this key that holds already is left as it is.

    Returns:
        The file with the signature.

    Raises:
        MalformedError, ContentError: SHA256SUMS and MANIFEST.json are not a release's.
        ConflictError: The file is there already, and holds another signature.
        CheckError: The new signature does not hold.
    """
    sums_bytes = read_sums_file(directory)
    manifest_bytes = read_limited(directory / MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    read_agreed(directory, sums_bytes, manifest_bytes)
    public = private_key.public
    path = directory / signature_name(public.key8)
    if os.path.lexists(path):
        if not public.verify(read_limited(path, limit=MAX_SIGNATURE_BYTES), sums_bytes):
            raise ConflictError(
                f"{shown(path)}: expected no file or this key's signature of {SUMS_NAME}, "
                "got another",
                hint="it is of an older build or by another key; move it away, then sign again",
            )
        return path
    signature = private_key.sign(sums_bytes)
    if not public.verify(signature, sums_bytes):
        raise CheckError(
            f"{shown(path)}: the signature just made does not hold, so it was not written"
        )
    atomic_write_bytes(path, signature)
    return path
