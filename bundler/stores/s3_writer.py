"""The calls that make objects: each with the settings of the target, and on its conditions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal, TypedDict, TypeVar, cast
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from bundler.digest import Digest
from bundler.errors import WorldError, printable
from bundler.object_settings import ObjectSettings
from bundler.stores.aws_errors import code_of
from bundler.stores.retry import Patience
from bundler.stores.s3_copy import Copying
from bundler.stores.s3_errors import Place

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import StorageClassType
    from types_boto3_s3.type_defs import PutObjectOutputTypeDef

T = TypeVar("T")
_MAX_SHOWN = 300
_KMS: Literal["aws:kms"] = "aws:kms"


class Condition(TypedDict, total=False):
    """What a call is sent with, so that it is carried out only if that holds."""

    IfNoneMatch: str


class _Settings(TypedDict, total=False):
    ServerSideEncryption: Literal["aws:kms"]
    SSEKMSKeyId: str
    BucketKeyEnabled: bool
    StorageClass: StorageClassType
    Tagging: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Makes objects through a client.

    Attributes:
        client: For the bucket; it retries as ``patience`` says.
        settings: What every object is made with. Access lists are never sent.
        patience: How long a part is tried.
        copying: Whether the server copies parts.
    """

    client: S3Client
    settings: ObjectSettings = field(default_factory=ObjectSettings)
    patience: Patience = field(default_factory=Patience)
    copying: Copying = field(default_factory=Copying)

    def put(self, place: Place, content: bytes | IO[bytes], digest: Digest) -> None:
        """Store an object in one request, whatever is there; raises as the client does."""
        self.require_encrypted(place, self._put(place, content, digest, {}))

    def put_new(self, place: Place, content: bytes | IO[bytes], digest: Digest) -> None:
        """Store an object in one request where the key is free; raises as the client does.

        What the server stored without the key that it was told to use is deleted again: the next
        run would take it for what it should be.
        """

        def write(condition: Condition) -> PutObjectOutputTypeDef:
            if not isinstance(content, bytes):
                content.seek(0)
            return self._put(place, content, digest, condition)

        answer = only_if_absent(write)
        try:
            self.require_encrypted(place, answer)
        except WorldError:
            self.client.delete_object(Bucket=place.bucket, Key=place.key)
            raise

    def begin(self, place: Place) -> tuple[str, bool]:
        """Begin a multipart upload whose parts have SHA-256.

        Returns:
            Its id, and whether there may be another one of ours, as the call was made again.
        """
        begun = self.client.create_multipart_upload(
            Bucket=place.bucket, Key=place.key, ChecksumAlgorithm="SHA256", **self._settings()
        )
        return begun["UploadId"], begun["ResponseMetadata"].get("RetryAttempts", 0) > 0

    def require_encrypted(self, place: Place, answer: Mapping[str, object]) -> None:
        """Refuse a server that keeps what it takes without the key that it was told to use.

        Args:
            place: What was sent.
            answer: To a PUT or to a part: every server that encrypts says so there.
        """
        if not self.settings.kms_key:
            return
        got = answer.get("ServerSideEncryption", "nothing")
        key = answer.get("SSEKMSKeyId", "")
        if got != _KMS or not _is_key(self.settings.kms_key, str(key)):
            raise WorldError(
                f"{place}: expected {place.server} to encrypt it with the KMS key "
                f"{self.settings.kms_key}, got {printable(f'{got} {key}'.strip())[:_MAX_SHOWN]}",
                hint="this server cannot, or goes on with an upload that was begun without the key "
                "(bundle prune --uploads ends it); else leave s3.kmsKey out of the target",
            )

    def _put(
        self, place: Place, content: bytes | IO[bytes], digest: Digest, condition: Condition
    ) -> PutObjectOutputTypeDef:
        return self.client.put_object(
            Bucket=place.bucket,
            Key=place.key,
            Body=content,
            ChecksumSHA256=digest.base64,
            **condition,
            **self._settings(),
        )

    def _settings(self) -> _Settings:
        given: _Settings = {}
        if self.settings.kms_key:
            given["ServerSideEncryption"] = _KMS
            given["SSEKMSKeyId"] = self.settings.kms_key
            given["BucketKeyEnabled"] = self.settings.bucket_key
        if self.settings.storage_class:
            given["StorageClass"] = cast("StorageClassType", self.settings.storage_class)
        if self.settings.tags:
            given["Tagging"] = urlencode(self.settings.tags)
        return given


def _is_key(asked: str, got: str) -> bool:
    """Compare a key, by its id, with the ARN of a server; of an alias only KMS could say whose."""
    return "alias/" in asked or _key_id(got) == _key_id(asked)


def _key_id(name: str) -> str:
    return re.split("[:/]", name)[-1]


def only_if_absent(write: Callable[[Condition], T]) -> T:
    """Write on condition that the key is free, or without one where the server knows none."""
    try:
        return write({"IfNoneMatch": "*"})
    except ClientError as error:
        if code_of(error) != "NotImplemented":
            raise
    return write({})
