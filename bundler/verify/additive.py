"""What of a release's files for other people's tools does not hold. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bundler.errors import BundleError, MalformedError
from bundler.jsontext import read_json
from bundler.model_signature import model_signature_name, model_statement
from bundler.provenance import provenance_name, provenance_statement
from bundler.release import TrustedRelease
from bundler.signing.keys import PublicKey
from bundler.signing.sigstore_bundle import (
    MAX_BUNDLE_BYTES,
    message_bundle_name,
    read_attestation_bundle,
    read_message_bundle,
)

_Check = Callable[[bytes, str], None]
# What a bundle may have beside a statement in base64, in bytes: nobody has verified it yet.
_BESIDE_STATEMENT = 4 << 10
_COMPARED = ("_type", "predicateType", "subject")


def additive_findings(release: TrustedRelease) -> tuple[str, ...]:
    """Name each Sigstore bundle, provenance and model signature that does not hold, and why.

    Only those of keys that vouch for the release are read: nobody can judge others. One that is
    not there is no finding.

    Returns:
        One line each, for people.
    """
    checks = (check for key in release.signers for check in _checks(release, key))
    return tuple(
        problem
        for name, limit, check in checks
        if release.files.has(name) and (problem := _problem(release, name, limit, check))
    )


def _checks(release: TrustedRelease, key: PublicKey) -> Iterator[tuple[str, int, _Check]]:
    """Give the name of each file that ``key`` may have made, its limit, and what it is held to."""
    message = partial(_check_message, key, release.sums_bytes)
    yield message_bundle_name(key.key8), MAX_BUNDLE_BYTES, message
    expected = partial(provenance_statement, release.manifest, release.sums)
    provenance = partial(_check_statement, key, expected, MAX_BUNDLE_BYTES)
    yield provenance_name(key.key8), MAX_BUNDLE_BYTES, provenance
    for checkpoint in release.manifest.checkpoints:
        limit = 2 * len(model_statement(checkpoint)) + _BESIDE_STATEMENT
        model = partial(_check_statement, key, partial(model_statement, checkpoint), limit)
        yield model_signature_name(checkpoint, key.key8), limit, model


def _problem(release: TrustedRelease, name: str, limit: int, check: _Check) -> str | None:
    try:
        check(release.files.read(name, limit=limit), release.files.shown(name))
    except BundleError as error:
        return str(error)
    return None


def _check_message(key: PublicKey, sums_bytes: bytes, content: bytes, name: str) -> None:
    if not read_message_bundle(content, name).holds(key, sums_bytes):
        raise MalformedError(f"{name}: expected key {key.key8}'s signature of SHA256SUMS")


def _check_statement(
    key: PublicKey, expected: Callable[[], bytes], limit: int, content: bytes, name: str
) -> None:
    bundle = read_attestation_bundle(content, name, limit=limit)
    if not bundle.holds(key):
        raise MalformedError(f"{name}: expected a statement that key {key.key8} signed")
    if _compared(bundle.statement, name, limit) != _compared(expected(), name, limit):
        raise MalformedError(f"{name}: expected a statement about this release, got another")


def _compared(statement: bytes, name: str, limit: int) -> list[object]:
    """Give what a newer builder writes too."""
    fields = read_json(statement, name=name, limit=limit).value
    return [fields.get(key) for key in _COMPARED] if isinstance(fields, dict) else [fields]
