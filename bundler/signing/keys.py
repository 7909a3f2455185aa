"""The only place that makes, reads and uses keys: ECDSA on P-256 with SHA-256."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from bundler.digest import Digest
from bundler.errors import DeniedError, MalformedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

MAX_KEY_BYTES = 16 << 10
# Source: OpenSSL, PEM_BUFSIZE, the longest passphrase that its own tools can be given.
_MAX_PASSPHRASE_BYTES = 1023
_CURVE = "secp256r1"
# A key is asked for again and again, and a trust file may list a thousand: to load one takes longer
# than to verify with it.
_KEYS_KEPT = 2048
_PUBLIC_PEM = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\s*")
_PRIVATE_PEM = re.compile(
    rb"\s*-----BEGIN (ENCRYPTED )?PRIVATE KEY-----[^-]+-----END \1?PRIVATE KEY-----\s*"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A P-256 public key; ``read_public_key`` makes one from outside.

    Attributes:
        pem: SubjectPublicKeyInfo in the one form that this module writes, so that two files with
            the same key give the same value.
    """

    pem: bytes

    @property
    def spki_digest(self) -> Digest:
        """Who it is: the sha256 over its SubjectPublicKeyInfo in DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return Digest.of(
            _load_public(self.pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )

    @property
    def key8(self) -> str:
        """The first 8 hex digits of ``spki_digest``: a hint in file names, never proof."""
        return self.spki_digest.hex[:8]

    def verify(self, signature: bytes, content: bytes) -> bool:
        """Say whether ``signature`` (DER) is this key's over ``content``."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            _load_public(self.pem).verify(signature, content, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A P-256 private key, held in memory only; ``read_private_key`` makes one."""

    _key: EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return _public_half(self._key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Give an ECDSA signature over the sha256 of ``content``, in DER."""
        from securesystemslib.signer import CryptoSigner

        signature: str = CryptoSigner(self._key).sign(content).signature
        return bytes.fromhex(signature)


def read_public_key(pem: bytes, *, name: str) -> PublicKey:
    """Read one public key from outside.

    Args:
        pem: The content of its file.
        name: What to call it in an error.

    Raises:
        MalformedError: It is not exactly one public key on P-256 in PEM.
    """
    _check_size(pem, name)
    if is_private(pem):
        raise MalformedError(
            f"{name}: expected a public key, got a private one",
            hint="give the .pub file that bundle keygen wrote; the private key stays at home",
        )
    if _PUBLIC_PEM.fullmatch(pem) is None:
        raise MalformedError(f"{name}: expected one '-----BEGIN PUBLIC KEY-----' and nothing else")
    try:
        return _public_half(_load_public(pem))
    except ValueError as error:
        raise MalformedError(f"{name}: expected a P-256 public key: {error}") from error


def is_private(pem: bytes) -> bool:
    """Say whether a private key, or what looks like one, is in a file's content."""
    return b"PRIVATE KEY-----" in pem


def needs_passphrase(pem: bytes) -> bool:
    """Say whether a private key is encrypted, to know whether to ask for a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def read_private_key(pem: bytes, passphrase: bytes | None, *, name: str) -> PrivateKey:
    """Read one private key.

    Args:
        pem: The content of its file: PKCS#8 in PEM, encrypted or not.
        passphrase: What it is encrypted with; not used for one that is not.
        name: What to call it in an error.

    Raises:
        MalformedError: It is not exactly one private key on P-256.
        DeniedError: It is encrypted, and this passphrase does not open it.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    _check_size(pem, name)
    if _PRIVATE_PEM.fullmatch(pem) is None:
        raise MalformedError(
            f"{name}: expected one PKCS#8 private key in PEM and nothing else",
            hint="bundle keygen writes one; openssl pkcs8 -topk8 -v2 aes-256-cbc converts others",
        )
    key = _load_private(pem, passphrase, name)
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != _CURVE:
        raise MalformedError(f"{name}: expected a private key on P-256, got another kind of key")
    return PrivateKey(key)


def new_key_pair(passphrase: bytes | None) -> tuple[bytes, bytes]:
    """Make a key pair.

    Args:
        passphrase: What the private half gets encrypted with; None leaves it open.

    Returns:
        The private half (PKCS#8) and the public half (SubjectPublicKeyInfo), both in PEM.

    Raises:
        MalformedError: The passphrase is empty, or longer than OpenSSL takes.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    if passphrase is not None and not 1 <= len(passphrase) <= _MAX_PASSPHRASE_BYTES:
        raise MalformedError(
            f"passphrase: expected 1 to {_MAX_PASSPHRASE_BYTES} bytes, got {len(passphrase)}"
        )
    key = generate_private_key(SECP256R1())
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return private_pem, _public_half(key.public_key()).pem


def _check_size(pem: bytes, name: str) -> None:
    if len(pem) > MAX_KEY_BYTES:
        raise MalformedError(f"{name}: expected at most {MAX_KEY_BYTES} bytes, got {len(pem)}")


@lru_cache(_KEYS_KEPT)
def _load_public(pem: bytes) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise ValueError("got another kind of key")
    return key


def _public_half(key: EllipticCurvePublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return PublicKey(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _load_private(pem: bytes, passphrase: bytes | None, name: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = needs_passphrase(pem)
    if encrypted and not passphrase:
        raise DeniedError(f"{name}: expected a passphrase, got none; the key is encrypted")
    try:
        return load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise DeniedError(
                f"{name}: this passphrase does not open the key",
                hint="the passphrase is another one, or the file is damaged",
            ) from error
        raise MalformedError(f"{name}: not a private key as we read it: {error}") from error
