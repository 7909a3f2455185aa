"""What S3 servers and botocore say when they fail, told in one line each.

Codes that are about who we are get our own words: a server's message may quote what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from bundler.errors import (
    BundleError,
    ContentError,
    DeniedError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.stores.tls import OTHER_HOST_HINT, is_of_another_host

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

# Servers differ: AWS and SeaweedFS say the first, MinIO the second.
_WRONG_CHECKSUM = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
# The condition of a call does not hold, another write is on its way, or an upload was ended.
_LOST = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"})
NO_SUCH_KEY = frozenset({"NoSuchKey", "404", "NotFound"})

_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "AccountProblem"})
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names"
_LOG_IN = "log in again, or renew the credentials"
_CLOCK = "set this machine's clock; S3 allows 15 minutes"
_REGION = "name the bucket's region in the target (s3.region) or in AWS_REGION"
_BUCKET = "make the bucket, or correct its name or the endpoint"
_REFUSALS = {
    "InvalidAccessKeyId": ("the access key is not known there", _KEYS),
    "InvalidClientTokenId": ("the access key is not known there", _KEYS),
    "UnrecognizedClientException": ("the access key is not known there", _KEYS),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _KEYS),
    "ExpiredToken": ("the session has expired", _LOG_IN),
    "ExpiredTokenException": ("the session has expired", _LOG_IN),
    "TokenRefreshRequired": ("the session has expired", _LOG_IN),
    "InvalidToken": ("the session token is not valid there", _LOG_IN),
    "RequestTimeTooSkewed": ("the clocks differ too much", _CLOCK),
    "RequestExpired": ("the clocks differ too much", _CLOCK),
}
_FAILURES = {
    "NoSuchBucket": ("no such bucket", _BUCKET),
    "InvalidBucketName": ("the server does not take this bucket name", _BUCKET),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "301": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("signed for another region than the bucket's", _REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION),
    "InvalidRange": ("the object is shorter than was expected", "upload it again"),
    "InvalidObjectState": ("the object is archived", "restore it from its cold storage class"),
}
# Which permission a call needs where a bare 403 does not say.
# Source: Amazon S3 user guide, "Required permissions for Amazon S3 API operations".
_ACTIONS = {
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "DeleteObject": "s3:DeleteObject",
}
# What fails before a server answers, the first that fits: kinds, our class, our text, a hint.
_BREAKS: tuple[tuple[tuple[type[BotoCoreError], ...], type[WorldError], str, str], ...] = (
    (
        (NoCredentialsError, NoAuthTokenError),
        DeniedError,
        "no AWS credentials found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine or "
        "service account a role",
    ),
    (
        (PartialCredentialsError,),
        DeniedError,
        "the AWS credentials are incomplete: {said}",
        _KEYS,
    ),
    (
        (CredentialRetrievalError, TokenRetrievalError, SSOError, LoginError),
        DeniedError,
        "no AWS credentials: {said}",
        _LOG_IN,
    ),
    (
        (ProfileNotFound, ConfigParseError),
        WorldError,
        "AWS configuration: {said}",
        "check AWS_PROFILE and AWS_CONFIG_FILE",
    ),
    (
        (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError),
        WorldError,
        "cannot reach {server}",
        "check the endpoint, the network and the proxy settings",
    ),
    ((ReadTimeoutError,), WorldError, "{server} stopped answering", "run again"),
    ((IncompleteReadError,), WorldError, "{server} ended the download early: {said}", "run again"),
    ((HTTPClientError,), WorldError, "the connection to {server} broke: {said}", "run again"),
)
_ACTION = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z]+)")
_SHOWN = 300
# In all; and in a row, since a page may be empty although it is not the last.
_MAX_LISTED, _MAX_EMPTY_PAGES = 1_000_000, 100


@dataclass(frozen=True, slots=True)
class Place:
    """What a call was about.

    Attributes:
        bucket: Name of the bucket.
        key: The object's key or a prefix; empty for the bucket itself.
        endpoint: URL of the server.
        part: Which part of an object was sent, and its digest; empty for all other calls.
    """

    bucket: str
    key: str
    endpoint: str
    part: str = ""

    @property
    def server(self) -> str:
        """The endpoint without what a URL may carry of a login."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __str__(self) -> str:
        if not self.bucket:
            return "S3"
        return f"s3://{self.bucket}/{printable(self.key)}" if self.key else f"s3://{self.bucket}"


def code_of(error: ClientError) -> str:
    """Give the server's error code; an HTTP status where a response had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


class LostError(WorldError):
    """Somebody else came between: look what is there now."""


def ending(
    pages: Iterable[ListObjectsV2OutputTypeDef], place: Place
) -> Iterator[ListObjectsV2OutputTypeDef]:
    """Pass the pages of a listing on as long as it may be an honest one.

    Raises:
        WorldError: It has more objects than any checkpoint has files, or page after page with none.
    """
    count = empty = 0
    for page in pages:
        found = len(page.get("Contents", ()))
        count, empty = count + found, 0 if found else empty + 1
        if count > _MAX_LISTED or empty > _MAX_EMPTY_PAGES:
            raise WorldError(
                f"{place}: the listing does not end: {count} objects so far",
                hint="choose a prefix that nothing else uses",
            )
        yield page


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Turn what the calls within raise into errors of ours.

    Raises:
        LostError: The key was taken, the object changed, or the upload is gone.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and code_of(error) in _LOST:
            text = f"{place}: somebody else came between ({code_of(error)})"
            raise LostError(text, hint="run again") from error
        raise explain(error, place) from error


def explain(error: ClientError | BotoCoreError, place: Place) -> BundleError:
    """Turn a failure into an error of ours; one that our own code raised in a body stays itself."""
    if isinstance(error, ClientError):
        return _refused(error, place)
    inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    return inner if isinstance(inner, BundleError) else _failed(error, place)


def _refused(error: ClientError, place: Place) -> BundleError:
    code, operation = code_of(error), error.operation_name
    message = printable(str(error.response.get("Error", {}).get("Message", "")))[:_SHOWN]
    if operation.startswith("AssumeRole"):
        return _no_role(f"{place}: AWS STS refused {operation}: {code}: {message}")
    if code in _WRONG_CHECKSUM:
        return ContentError(
            f"{place}: {place.part}, but {place.server} got other bytes ({code})",
            hint="nothing was stored; `bundle verify` tells whether the archive is damaged",
        )
    if code in _DENIED:
        return _denied(operation, message, place)
    if code.startswith("KMS."):
        hint = "check the state of the KMS key that encrypts the bucket"
        return WorldError(f"{place}: KMS, not S3, refused: {code}: {message}", hint=hint)
    if code in _REFUSALS:
        reason, hint = _REFUSALS[code]
        return DeniedError(f"{place}: refused by {place.server}: {reason} ({code})", hint=hint)
    if code in _FAILURES:
        reason, hint = _FAILURES[code]
        return WorldError(f"{place}: {reason} at {place.server} ({code})", hint=hint)
    if code in NO_SUCH_KEY:
        return NotFoundError(f"{place}: no such object at {place.server}")
    return WorldError(f"{place}: {operation} failed at {place.server}: {code}: {message}")


def _no_role(message: str) -> DeniedError:
    hint = "check the role that the service account names, and whom that role trusts"
    return DeniedError(message, hint=hint)


def _denied(operation: str, message: str, place: Place) -> DeniedError:
    found = _ACTION.search(message)
    action = found[1] if found else _ACTIONS.get(operation, operation)
    detail = f": {message}" if found else ""
    if action.startswith("kms:"):
        hint = f"allow {action} on the KMS key that encrypts the bucket, for whoever runs this"
        text = f"{place}: access denied by KMS, not by S3: {action}{detail}"
    else:
        hint = f"allow {action} on {place} for whoever runs this"
        if not found:
            hint += "; with a KMS key on the bucket also kms:Decrypt and kms:GenerateDataKey"
        text = f"{place}: access denied by S3: {action}{detail}"
    return DeniedError(text, hint=f"{hint} (in a pod: the role of its service account)")


def _failed(error: BotoCoreError, place: Place) -> BundleError:
    if isinstance(error, SSLError):
        return _no_tls(error, place)
    for kinds, made, text, hint in _BREAKS:
        if isinstance(error, kinds):
            reason = text.format(server=place.server, said=_said(error))
            return made(f"{place}: {reason}", hint=hint)
    return WorldError(f"{place}: {_said(error)}")


def _no_tls(error: SSLError, place: Place) -> WorldError:
    reason = _said(error)
    if is_of_another_host(reason):
        reason = "its certificate is of another host"
        hint = f"s3.endpoint in the target: {OTHER_HOST_HINT}"
    elif "CERTIFICATE_VERIFY_FAILED" in reason:
        found = re.search(r"certificate verify failed: ([^(]*)", reason)
        reason = f"its certificate is not trusted: {(found[1] if found else reason).strip()}"
        hint = "name the CA that it is of: s3.ca in the target, or AWS_CA_BUNDLE"
    else:
        hint = "check that the endpoint speaks TLS: https:// or http://?"
    return WorldError(f"{place}: no TLS with {place.server}: {reason}", hint=hint)


def _said(error: BotoCoreError) -> str:
    return printable(str(error))[:_SHOWN]
