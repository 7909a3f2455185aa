"""What names a signing key: a file, a key of AWS KMS, or one in a PKCS#11 token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
# Source: AWS KMS API reference, GetPublicKey, KeyId: an id, an ARN or an alias of either form.
_KMS_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/_-]{0,2047}")
_KMS_ARN_REGION = re.compile(r"arn:[a-z0-9-]+:kms:([a-z0-9-]+):")
_HSM_KEY = re.compile(r"([0-9]{1,18})?(?:\?(.*))?", re.DOTALL)
# Where PIV tokens keep the key for signatures; securesystemslib takes the same.
_PIV_SIGNATURE_KEY = 2


@dataclass(frozen=True, slots=True)
class FileKey:
    """A private key in a PEM file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key that AWS KMS keeps: its id, its ARN, or an alias as ``alias/NAME`` or as an ARN."""

    key_id: str

    @property
    def region(self) -> str | None:
        """Where an ARN says that it is; None where the name does not say."""
        found = _KMS_ARN_REGION.match(self.key_id)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"awskms:{self.key_id}"


@dataclass(frozen=True, slots=True)
class HsmKey:
    """A key in a PKCS#11 token.

    Attributes:
        key_id: Its CKA_ID, read as a number.
        token: The token's label; None where there is one token only.
    """

    key_id: int
    token: str | None

    def __str__(self) -> str:
        return f"hsm:{self.key_id}" + ("" if self.token is None else f" of token {self.token}")


KeyUri = FileKey | KmsKey | HsmKey


def read_key_uri(text: str) -> KeyUri:
    """Read what names a key: a path, ``file:PATH``, ``awskms:KEY`` or ``hsm:[ID][?label=TOKEN]``.

    Raises:
        ValueError: It is none of these. The message has nothing of what stands behind a ``?``:
            it may be a PIN.
    """
    found = _SCHEME.fullmatch(text)
    scheme, rest = (found[1], found[2]) if found else ("file", text)
    if scheme == "awskms":
        return _kms_key(rest)
    if scheme == "hsm":
        return _hsm_key(rest)
    if scheme == "file":
        return FileKey(Path(rest))
    if Path(text).exists():
        return FileKey(Path(text))
    raise ValueError(f"expected a file, file:, awskms: or hsm:, got {scheme}:")


def _kms_key(text: str) -> KmsKey:
    if _KMS_KEY.fullmatch(text) is None:
        raise ValueError("expected awskms: and a key's id, its ARN or alias/NAME")
    return KmsKey(text)


def _hsm_key(text: str) -> HsmKey:
    found = _HSM_KEY.fullmatch(text)
    if found is None:
        raise ValueError("expected hsm:[ID][?label=TOKEN] with a decimal ID")
    fields = parse_qsl(found[2] or "", keep_blank_values=True)
    names = [name for name, _ in fields]
    if names not in ([], ["label"]) or (fields and not fields[0][1]):
        raise ValueError("expected nothing but label=TOKEN behind the ? of hsm:; a PIN never")
    key_id = int(found[1]) if found[1] else _PIV_SIGNATURE_KEY
    return HsmKey(key_id, fields[0][1] if fields else None)
