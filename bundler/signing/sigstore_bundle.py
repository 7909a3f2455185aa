"""Sigstore bundles: our signatures once more, in the form that cosign and its kin take.

Nothing here decides whether a release is trusted; that is for ``SHA256SUMS.<key8>.sig`` alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import CheckError
from bundler.jsontext import read_json, write_json
from bundler.signing.dsse import IN_TOTO_PAYLOAD, pre_authentication_encoding
from bundler.signing.keys import PublicKey
from bundler.sums import SUMS_NAME

MAX_BUNDLE_BYTES = 1 << 20
# Source: sigstore/protobuf-specs, sigstore_bundle.proto, Bundle.media_type.
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SHA256 = "SHA2_256"
# The order of P-256's group. Source: NIST SP 800-186, 3.2.1.3.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class MessageBundle:
    """A signature over a file; who made it is yet to be found out.

    Attributes:
        hint: What it says of the key; proves nothing.
        digest: What it says of the file; proves nothing.
        signature: ECDSA, in DER.
    """

    hint: str
    digest: Digest
    signature: bytes

    def holds(self, public: PublicKey, content: bytes) -> bool:
        """Say whether it is this key's over ``content``."""
        return self.digest == Digest.of(content) and public.verify(self.signature, content)


@dataclass(frozen=True, slots=True)
class AttestationBundle:
    """A signed in-toto statement; who signed it is yet to be found out.

    Attributes:
        hint: What it says of the key; proves nothing.
        statement: JSON that nobody has read yet.
        signature: ECDSA, in DER.
    """

    hint: str
    statement: bytes
    signature: bytes

    def holds(self, public: PublicKey) -> bool:
        """Say whether the signature is this key's over the statement."""
        return public.verify(self.signature, pre_authentication_encoding(self.statement))


def message_bundle_name(key8: str) -> str:
    """Name the file that holds a key's signature of SHA256SUMS as a Sigstore bundle."""
    return f"{SUMS_NAME}.{key8}.sigstore.json"


def message_bundle(public: PublicKey, digest: Digest, signature: bytes) -> bytes:
    """Wrap a signature over a file of this digest, for ``cosign verify-blob`` and the like."""
    message = {
        "messageDigest": {"algorithm": _SHA256, "digest": digest.base64},
        "signature": _to_base64(signature),
    }
    return _bundle(public, "messageSignature", message)


def attestation_bundle(
    public: PublicKey, statement: bytes, sign: Callable[[bytes], bytes]
) -> bytes:
    """Sign an in-toto statement, for ``cosign verify-blob-attestation`` and the like.

    Args:
        public: The key that ``sign`` uses.
        statement: Its JSON.
        sign: Gives a signature in DER over the bytes it is given.

    Raises:
        CheckError: The signature does not hold under ``public``.
    """
    encoded = pre_authentication_encoding(statement)
    signature = sign(encoded)
    if not public.verify(signature, encoded):
        raise CheckError(f"key {public.key8}: the signature just made does not hold")
    # cosign refuses an id of a key that is not empty; readers of securesystemslib want the field.
    envelope = {
        "payload": _to_base64(statement),
        "payloadType": IN_TOTO_PAYLOAD,
        "signatures": [{"keyid": "", "sig": _to_base64(signature)}],
    }
    return _bundle(public, "dsseEnvelope", envelope)


def read_message_bundle(content: bytes, name: str) -> MessageBundle:
    """Read a bundle around a signature of a file.

    Raises:
        MalformedError: It is longer than 1 MiB, of another version or kind, or has a field that
            ``message_bundle`` does not write.
    """
    bundle = _read(content, name, MAX_BUNDLE_BYTES)
    hint = _read_hint(bundle)
    message = bundle.table("messageSignature")
    stated = message.table("messageDigest")
    stated.choice("algorithm", (_SHA256,))
    digest = stated.parse("digest", _digest)
    signature = message.parse("signature", _signature)
    for table in (stated, message, bundle):
        table.close()
    return MessageBundle(hint, digest, signature)


def read_attestation_bundle(
    content: bytes, name: str, *, limit: int = MAX_BUNDLE_BYTES
) -> AttestationBundle:
    """Read a bundle around a signed statement.

    Args:
        content: What is in the file.
        name: What to call it in an error.
        limit: The most bytes that it may have.

    Raises:
        MalformedError: It is too long, of another version or kind, has not exactly one signature,
            or has a field that ``attestation_bundle`` does not write.
    """
    bundle = _read(content, name, limit)
    hint = _read_hint(bundle)
    envelope = bundle.table("dsseEnvelope")
    envelope.choice("payloadType", (IN_TOTO_PAYLOAD,))
    statement = _read_payload(bundle, envelope)
    signatures = envelope.tables("signatures")
    if len(signatures) != 1:
        envelope.refuse("signatures", f"expected exactly one, got {len(signatures)}")
    signatures[0].choice("keyid", ("",), default="")
    signature = signatures[0].parse("sig", _signature)
    for table in (signatures[0], envelope, bundle):
        table.close()
    return AttestationBundle(hint, statement, signature)


def _bundle(public: PublicKey, kind: str, content: object) -> bytes:
    # model_signing demands this form of a hint; to the others any will do.
    hint = Digest.of(public.pem).hex
    return write_json(
        {
            "mediaType": _MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            kind: content,
        }
    )


def _read(content: bytes, name: str, limit: int) -> Table:
    bundle = read_json(content, name=name, limit=limit).table()
    bundle.choice("mediaType", (_MEDIA_TYPE,))
    return bundle


def _read_hint(bundle: Table) -> str:
    material = bundle.table("verificationMaterial")
    key = material.table("publicKey")
    hint = key.text("hint", "")
    if material.tables("tlogEntries"):
        material.refuse("tlogEntries", "expected none")
    key.close()
    material.close()
    return hint


def _read_payload(bundle: Table, envelope: Table) -> bytes:
    """Read the one text that is longer than others may be."""
    text = bundle.plain("dsseEnvelope").get("payload") if "payload" in envelope else None
    if not isinstance(text, str):
        envelope.refuse("payload", "expected a text")
    return envelope.explain(lambda: _from_base64(text), "payload")


def _digest(text: str) -> Digest:
    return Digest(_from_base64(text).hex())


def _signature(text: str) -> bytes:
    """Read a signature: two numbers below the order of P-256, in the one form that DER allows.

    Raises:
        ValueError: It is none.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import (
        decode_dss_signature,
        encode_dss_signature,
    )

    signature = _from_base64(text)
    r, s = decode_dss_signature(signature)
    if not (0 < r < _ORDER and 0 < s < _ORDER) or encode_dss_signature(r, s) != signature:
        raise ValueError("not an ECDSA signature on P-256 in DER")
    return signature


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _from_base64(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    if _to_base64(content) != text:
        raise ValueError("not base64 in its one form")
    return content
