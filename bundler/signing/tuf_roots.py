"""The only place that reads and writes TUF root metadata: trust files, by python-tuf."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bundler.digest import Digest
from bundler.errors import MalformedError, printable
from bundler.jsontext import read_json, write_json
from bundler.signing.keys import PublicKey, read_public_key
from bundler.signing.quorum import Quorum, Tally

if TYPE_CHECKING:
    from tuf.api.metadata import Key, Metadata
    from tuf.api.metadata import Root as TufRoot

# Source: The Update Framework specification 1.0.34, section 5.3: a root has a size limit.
MAX_ROOT_BYTES = 512 << 10
_SCHEME = "ecdsa-sha2-nistp256"
# Source: securesystemslib writes the first; TUF 1.0.34, section 4.2, has both.
_KINDS = {("ecdsa", _SCHEME), (_SCHEME, _SCHEME)}
_HOLDERS, _SIGNERS = "root", "targets"
_ROLES = (_HOLDERS, "timestamp", "snapshot", _SIGNERS)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_SHOWN_ID = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One version of a trust file; ``read_root`` makes one. Nothing says yet that it is trusted.

    Attributes:
        name: What to call it in an error.
        content: Its bytes.
        version: From 1.
        expires: UTC seconds, as ``2026-11-01T00:00:00Z``.
        holders: Who must sign this version, and the next one.
        signers: Who signs releases.
    """

    name: str
    content: bytes = field(repr=False)
    version: int
    expires: str
    holders: Quorum
    signers: Quorum
    _metadata: Metadata[TufRoot] = field(repr=False, compare=False)

    @property
    def signed_bytes(self) -> bytes:
        """What its signatures are over: all of it but they, in canonical JSON."""
        return self._metadata.signed_bytes

    @property
    def is_signed(self) -> bool:
        """Whether it has a signature of anybody, whatever that is worth."""
        return bool(self._metadata.signatures)

    def tally(self, by: Root) -> Tally:
        """Count who of the holders of ``by``, this version or the one before it, signed this one.

        The library judges each signature; it would count a key as often as it is listed.
        """
        result = by._metadata.signed.get_verification_result(
            _HOLDERS, self._metadata.signed_bytes, self._metadata.signatures
        )
        return by.holders.tally(map(_public, result.signed.values()))

    def ids_of(self, key: PublicKey) -> set[str]:
        """Give the ids under which a key is a holder of this version."""
        root = self._metadata.signed
        keyids = root.roles[_HOLDERS].keyids
        return {keyid for keyid in keyids if _public(root.keys[keyid]) == key}

    def with_signature(self, keyids: Iterable[str], signature: bytes) -> bytes:
        """Give its content with a key's signature, under each of its ids; replaces earlier ones."""
        whole = self._metadata.to_dict()
        signatures = {item["keyid"]: item for item in whole["signatures"]}
        signatures |= {keyid: {"keyid": keyid, "sig": signature.hex()} for keyid in sorted(keyids)}
        return write_json({**whole, "signatures": list(signatures.values())})


def read_root(content: bytes, *, name: str) -> Root:
    """Read a version of a trust file strictly, whoever signed it.

    Raises:
        MalformedError: It is too long, is not TUF root metadata, its keys are not P-256 keys, or a
            threshold is more than there are distinct keys.
    """
    from tuf.api.metadata import Metadata
    from tuf.api.metadata import Root as TufRoot
    from tuf.api.serialization import DeserializationError

    # The library takes the last of two equal keys, and floats; so ours reads first.
    read_json(content, name=name, limit=MAX_ROOT_BYTES).table()
    try:
        metadata: Metadata[TufRoot] = Metadata.from_bytes(content)
    except DeserializationError as error:
        reason = printable(f"{type(error.__cause__).__name__}: {error.__cause__}")
        raise MalformedError(f"{name}: not TUF root metadata: {reason}") from error
    root: object = metadata.signed
    if not isinstance(root, TufRoot):
        raise MalformedError(f"{name}: expected TUF root metadata, got {metadata.signed.type}")
    return Root(
        name=name,
        content=content,
        version=root.version,
        expires=root.expires.astimezone(UTC).strftime(_TIME_FORMAT),
        holders=_quorum(root, _HOLDERS, name),
        signers=_quorum(root, _SIGNERS, name),
        _metadata=metadata,
    )


def write_root(version: int, signers: Quorum, expires: str) -> bytes:
    """Write a version of a trust file that nobody signed yet.

    Every role that TUF demands gets the same keys and threshold.

    Args:
        version: From 1.
        signers: Who signs releases, and this file.
        expires: UTC seconds, as ``2026-11-01T00:00:00Z``.
    """
    from tuf.api.metadata import Metadata, Role
    from tuf.api.metadata import Root as TufRoot

    keys = [_tuf_key(key) for key in signers.keys]
    root = TufRoot(
        version=version,
        expires=datetime.strptime(expires, _TIME_FORMAT).replace(tzinfo=UTC),
        keys={key.keyid: key for key in keys},
        roles={name: Role([key.keyid for key in keys], signers.threshold) for name in _ROLES},
        consistent_snapshot=False,
    )
    return write_json(Metadata(root).to_dict())


def _quorum(root: TufRoot, role_name: str, name: str) -> Quorum:
    role = root.roles[role_name]
    keys = (_listed(root, keyid, f"{name}: role {role_name}") for keyid in role.keyids)
    return Quorum.of(keys, role.threshold, name=f"{name}: role {role_name}")


def _listed(root: TufRoot, keyid: str, name: str) -> PublicKey:
    """Give the key that a role names by an id, which may be any text."""
    name = f"{name}: key {printable(keyid[:_SHOWN_ID])}"
    key = root.keys.get(keyid)
    if key is None:
        raise MalformedError(f"{name}: expected it among the keys, got none of this id")
    if (key.keytype, key.scheme) not in _KINDS:
        raise MalformedError(
            f"{name}: expected ecdsa with {_SCHEME}, got "
            f"{printable(f'{key.keytype} with {key.scheme}')}"
        )
    return _public(key, name)


def _public(key: Key, name: str = "") -> PublicKey:
    return read_public_key(key.keyval["public"].encode("utf-8", "replace"), name=name or key.keyid)


def _tuf_key(key: PublicKey) -> Key:
    """Give a key the id that TUF 1.0.34, section 4.2, computes for it."""
    from securesystemslib.formats import encode_canonical
    from tuf.api.metadata import Key

    facts = {"keytype": "ecdsa", "scheme": _SCHEME, "keyval": {"public": key.pem.decode()}}
    keyid = Digest.of(str(encode_canonical(facts)).encode()).hex
    return Key.from_dict(keyid, facts)
