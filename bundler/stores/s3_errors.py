"""What S3 servers say when they fail, told in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from urllib3.exceptions import HTTPError

from bundler.errors import (
    BundleError,
    ContentError,
    DeniedError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.stores.aws_errors import (
    REFUSALS,
    Service,
    code_of,
    denied_action,
    message_of,
    unanswered,
)
from bundler.stores.tunnel import PROXY_LOGIN_HINT

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

# Servers differ: AWS and SeaweedFS say the first, MinIO the second.
_WRONG_CHECKSUM = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
# The condition of a call does not hold, another write is on its way, or an upload was ended.
_LOST = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload"})
NO_SUCH_KEY = frozenset({"NoSuchKey", "404", "NotFound"})

_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "AccountProblem"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_REGION = "name the bucket's region in the target (s3.region) or in AWS_REGION"
_BUCKET = "make the bucket, or correct its name or the endpoint"
_FAILURES = {
    "407": ("a proxy on the way let nothing through", PROXY_LOGIN_HINT),
    "NoSuchBucket": ("no such bucket", _BUCKET),
    "InvalidBucketName": ("the server does not take this bucket name", _BUCKET),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "301": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("signed for another region than the bucket's", _REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION),
    "InvalidRange": ("the object is shorter than was expected", "upload it again"),
    "InvalidPart": (
        "a part that was sent is not there any more, or another one is",
        "run again: somebody else may have sent it too; what arrived stays",
    ),
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
_S3 = Service(ca="s3.ca in the target", endpoint="s3.endpoint in the target")
_SOURCE = Service(ca="--source-ca", endpoint="--source-endpoint")
_SOURCE_HINTS = {
    _REGION: "name the bucket's region: --source-region, or AWS_REGION",
    _BUCKET: "correct the bucket's name, or name its server: --source-endpoint",
}
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
        source: A release is read there: hints name the options for that, not the target's.
    """

    bucket: str
    key: str
    endpoint: str
    part: str = ""
    source: bool = False

    @property
    def server(self) -> str:
        """The endpoint without what a URL may carry of a login."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __str__(self) -> str:
        if not self.bucket:
            return "S3"
        return f"s3://{self.bucket}/{printable(self.key)}" if self.key else f"s3://{self.bucket}"


class LostError(WorldError):
    """Somebody else came between: look what is there now.

    Attributes:
        may_be_ours: It was no first attempt: the one before may have been carried out.
    """

    def __init__(self, message: str, *, may_be_ours: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.may_be_ours = may_be_ours


class CutError(WorldError):
    """An answer was cut where the client library tries nothing again."""


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
        CutError: The answer to a refused call was cut.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and code_of(error) in _LOST:
            text = f"{place}: somebody else came between ({code_of(error)})"
            again = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
            raise LostError(text, may_be_ours=again, hint="run again") from error
        raise explain(error, place) from error
    except HTTPError as error:
        # botocore reads the body of a refused GetObject outside its own handling of errors.
        raise CutError(f"{place}: an answer of {place.server} was cut", hint="run again") from error


def explain(error: ClientError | BotoCoreError, place: Place) -> BundleError:
    """Turn a failure into an error of ours; one that our own code raised in a body stays itself."""
    if isinstance(error, ClientError):
        return _refused(error, place)
    inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    if isinstance(inner, BundleError):
        return inner
    return unanswered(error, str(place), place.server, _SOURCE if place.source else _S3)


def _refused(error: ClientError, place: Place) -> BundleError:
    code, operation = code_of(error), error.operation_name
    message = message_of(error)
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
    if code in REFUSALS:
        return _not_known(error, code, place)
    if code in _FAILURES:
        reason, hint = _FAILURES[code]
        hint = _SOURCE_HINTS.get(hint, hint) if place.source else hint
        return WorldError(f"{place}: {reason} at {place.server} ({code})", hint=hint)
    if code in NO_SUCH_KEY:
        return NotFoundError(f"{place}: no such object at {place.server}")
    return WorldError(f"{place}: {operation} failed at {place.server}: {code}: {message}")


def _not_known(error: ClientError, code: str, place: Place) -> DeniedError:
    reason, hint = REFUSALS[code]
    if code in _EXPIRED:
        hint += ", and run the same command again: what has arrived stays"
    if code in _SKEWED:
        reason += _clocks(error)
    return DeniedError(f"{place}: refused by {place.server}: {reason} ({code})", hint=hint)


def _clocks(error: ClientError) -> str:
    """Say both clocks, as far as the server's answer tells them."""
    said: dict[str, object] = dict(error.response.get("Error", {}))
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    ours = said.get("RequestTime") or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    theirs = said.get("ServerTime") or headers.get("date", "unknown")
    return f": here {printable(str(ours))[:40]}, there {printable(str(theirs))[:40]}"


def _no_role(message: str) -> DeniedError:
    hint = "check the role that the service account names, and whom that role trusts"
    return DeniedError(message, hint=hint)


def _denied(operation: str, message: str, place: Place) -> DeniedError:
    found = denied_action(message)
    action = found or _ACTIONS.get(operation, operation)
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
