"""Who signs: a key in a file, in AWS KMS, or in a PKCS#11 token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bundler.archive.files import read_given
from bundler.errors import ToolError, printable
from bundler.signing.key_uri import FileKey, HsmKey, KeyUri, KmsKey
from bundler.signing.keys import (
    MAX_KEY_BYTES,
    PrivateKey,
    PublicKey,
    needs_passphrase,
    read_private_key,
)

_DISTRIBUTION = "airgap-llm-bundle"


class Signer(Protocol):
    """A key that signs; where it is kept, only its own module knows."""

    @property
    def public(self) -> PublicKey:
        """Its public half."""

    def sign(self, content: bytes) -> bytes:
        """Give an ECDSA signature over the sha256 of ``content``, in DER.

        Nobody has verified it yet.

        Raises:
            BundleError: The key cannot be used, in the words of whoever keeps it.
        """


# Gives the passphrase or PIN that its argument names, as it would stand in a question.
Secret = Callable[[str], bytes]


def open_signer(key: KeyUri, *, secret: Secret, pkcs11_module: Path | None = None) -> Signer:
    """Find a key, and learn its public half; a secret is asked for only where it is needed.

    Args:
        key: Which.
        secret: Gives the passphrase of a file or the PIN of a token.
        pkcs11_module: The library of the token's maker; None for what ``PYKCS11LIB`` names.

    Raises:
        MalformedError: It is no key on P-256 that signs.
        DeniedError: The passphrase or PIN is wrong, or AWS does not let us.
        NotFoundError: There is no such file, key or token.
        ToolError: A package that it needs is not installed.
        WorldError: Whoever keeps it cannot be reached or does not work.
    """
    if isinstance(key, FileKey):
        return _open_file(key, secret)
    if isinstance(key, KmsKey):
        return _open_kms(key)
    return _open_hsm(key, secret, pkcs11_module)


def _open_file(key: FileKey, secret: Secret) -> PrivateKey:
    pem = read_given(key.path, limit=MAX_KEY_BYTES)
    passphrase = secret(f"Passphrase of {key}") if needs_passphrase(pem) else None
    return read_private_key(pem, passphrase, name=printable(str(key)))


def _open_kms(key: KmsKey) -> Signer:
    try:
        from bundler.signing.kms import open_kms
    except ModuleNotFoundError as error:
        raise _not_installed(key, error, "kms") from error
    return open_kms(key)


def _open_hsm(key: HsmKey, secret: Secret, module: Path | None) -> Signer:
    try:
        from bundler.signing.hsm import open_hsm
    except ModuleNotFoundError as error:
        raise _not_installed(key, error, "hsm") from error
    return open_hsm(key, secret=secret, module=module)


def _not_installed(key: KeyUri, error: ModuleNotFoundError, extra: str) -> ToolError:
    return ToolError(
        f"{printable(str(key))}: the Python package {error.name} is not installed",
        hint=f"pip install '{_DISTRIBUTION}[{extra}]'",
    )
