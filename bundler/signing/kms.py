"""Keys that AWS KMS keeps: content is hashed here, and a digest is all that goes there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
from botocore.parsers import ResponseParserError
from securesystemslib.exceptions import UnsupportedAlgorithmError
from securesystemslib.signer import AWSSigner, SSlibKey

from bundler.errors import (
    BundleError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.signing.key_uri import KmsKey
from bundler.signing.keys import PublicKey, read_public_key
from bundler.stores.aws_errors import (
    DENIED,
    REFUSALS,
    SHOWN,
    Service,
    code_of,
    denied_action,
    message_of,
    unanswered,
)

_ATTEMPTS = 4
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
_SCHEME = "ecdsa-sha2-nistp256"
_GET, _SIGN = "kms:GetPublicKey", "kms:Sign"
_SERVICE = Service(ca="ca_bundle in the AWS profile", endpoint="AWS_ENDPOINT_URL_KMS")
_WANTED_SPEC = "expected a key of spec ECC_NIST_P256 that signs"
_NEW_KEY = "aws kms create-key --key-spec ECC_NIST_P256 --key-usage SIGN_VERIFY makes one"
_REGION = (
    "AWS_REGION names the region, AWS_ENDPOINT_URL_KMS another server; an ARN has its own region"
)
_BUSY = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "KMSInternalException",
    }
)
_OTHER_KIND = frozenset({"InvalidKeyUsageException", "UnsupportedOperationException"})
# Error codes about the key itself: our text, and a hint.
_KEY_STATES = {
    "DisabledException": ("the key is disabled", "enable it: aws kms enable-key --key-id KEY"),
    "KMSInvalidStateException": (
        "the key is in no state to sign: {said}",
        "aws kms describe-key --key-id KEY tells its KeyState",
    ),
}


class KmsSigner:
    """A key in AWS KMS.

    Args:
        key: Which.
        signer: What asks AWS.
        public: The public half, which AWS gave.
    """

    def __init__(self, key: KmsKey, signer: AWSSigner, public: PublicKey) -> None:
        self._key = key
        self._signer = signer
        self._public = public

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return self._public

    def sign(self, content: bytes) -> bytes:
        """Have the digest of ``content`` signed; in DER, verified by nobody yet.

        Raises:
            BundleError: AWS refuses or does not answer.
        """
        with _told(self._key, _SIGN):
            return bytes.fromhex(self._signer.sign(content).signature)


def open_kms(key: KmsKey, *, environment: Mapping[str, str] = os.environ) -> KmsSigner:
    """Ask AWS for a key's public half.

    Credentials and the server are found as boto3 finds them, in any partition.

    Args:
        key: Which; the region of an ARN goes before all others.
        environment: Where ``AWS_REGION`` is looked up, which boto3 passes over.

    Raises:
        BundleError: AWS refuses or does not answer, or it is not a key on P-256 that signs.
    """
    region = key.region or environment.get("AWS_REGION")
    _silence_library()
    with _told(key, _GET), _settings(region):
        _, public = AWSSigner.import_(key.key_id)
        if public.scheme != _SCHEME:
            raise MalformedError(f"{key}: {_WANTED_SPEC}, got {public.scheme}", hint=_NEW_KEY)
        signer = AWSSigner(key.key_id, public)
    return KmsSigner(key, signer, _public_key(key, public))


def _public_key(key: KmsKey, public: SSlibKey) -> PublicKey:
    return read_public_key(str(public.keyval["public"]).encode(), name=str(key))


def _silence_library() -> None:
    """Keep it from writing to standard error what it raises as well."""
    logger = logging.getLogger("securesystemslib.signer")
    if logger.propagate:
        logger.propagate = False
        logger.addHandler(logging.NullHandler())


@contextmanager
def _settings(region: str | None) -> Iterator[None]:
    """Have clients made as we want them: AWSSigner makes its own from boto3's default session."""
    core = botocore.session.get_session()
    core.set_default_client_config(
        Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
        )
    )
    before = boto3.DEFAULT_SESSION
    boto3.setup_default_session(botocore_session=core, region_name=region)
    try:
        yield
    finally:
        boto3.DEFAULT_SESSION = before


@contextmanager
def _told(key: KmsKey, permission: str) -> Iterator[None]:
    """Turn what calls of AWS KMS raise into errors of ours."""
    try:
        yield
    except ClientError as error:
        raise _refused(error, key, permission) from error
    except NoRegionError as error:
        raise WorldError(f"{key}: no AWS region is set", hint=_REGION) from error
    except BotoCoreError as error:
        raise unanswered(error, str(key), _server(error), _SERVICE) from error
    except UnsupportedAlgorithmError as error:
        said = printable(str(error))[:SHOWN]
        raise MalformedError(f"{key}: {_WANTED_SPEC}: {said}", hint=_NEW_KEY) from error
    except (ResponseParserError, AttributeError, KeyError, TypeError, ValueError) as error:
        # The libraries take the shape of an answer for granted.
        # Not what it says: it may quote a URL with a login in it.
        text = f"{key}: the server, or its answer, is none of AWS KMS ({type(error).__name__})"
        raise WorldError(text, hint=_REGION) from error


def _server(error: BotoCoreError) -> str:
    parts = urlsplit(str(error.kwargs.get("endpoint_url") or ""))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "AWS KMS"


def _refused(error: ClientError, key: KmsKey, permission: str) -> BundleError:
    code, said = code_of(error), message_of(error)
    if code in DENIED:
        text = f"{key}: access denied by AWS KMS: {denied_action(said) or permission}: {said}"
        hint = f"allow {_GET} and {_SIGN} on this key for whoever runs this"
        return DeniedError(text, hint=hint)
    if code in REFUSALS:
        reason, hint = REFUSALS[code]
        return DeniedError(f"{key}: refused by AWS KMS: {reason} ({code})", hint=hint)
    if code in _OTHER_KIND:
        return MalformedError(f"{key}: {_WANTED_SPEC}: {said} ({code})", hint=_NEW_KEY)
    if code == "NotFoundException":
        return NotFoundError(f"{key}: AWS KMS has no such key: {said}", hint=_REGION)
    if code in _KEY_STATES:
        reason, hint = _KEY_STATES[code]
        return WorldError(f"{key}: {reason.format(said=said)}", hint=hint)
    if code in _BUSY:
        text = f"{key}: AWS KMS is too busy for this account, after {_ATTEMPTS} tries ({code})"
        return WorldError(text, hint="run again in some minutes")
    return WorldError(f"{key}: {permission} failed: {code}: {said}", hint=_REGION)
