"""How a bucket is to keep what we put there: encryption, storage class, tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.document import Table

# Source: Amazon S3 user guide, "Categorizing your objects using tags".
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 10, 128, 256
_TAG = re.compile(r"[\w +\-=.:/@]*")
_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
# An object there must be restored, for hours, before anybody can read it.
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSettings:
    """What every object is made with; what is None or empty is left to the bucket.

    Attributes:
        kms_key: ARN, id or alias of the key that objects are encrypted with (SSE-KMS).
        bucket_key: Whether S3 asks KMS once for many objects; with ``kms_key`` only.
        storage_class: Name of a class whose objects can be read at once.
        tags: Of each object.
    """

    kms_key: str | None = None
    bucket_key: bool = True
    storage_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.tags) > _MAX_TAGS:
            raise ValueError(f"tags: expected at most {_MAX_TAGS}, got {len(self.tags)}")
        for key, value in self.tags.items():
            _check_tag(key, _MAX_TAG_KEY)
            _check_tag(value, _MAX_TAG_VALUE)
            if not key:
                raise ValueError("tags: expected a key, got none")


def read_object_settings(table: Table) -> ObjectSettings:
    """Read the fields ``kmsKey``, ``bucketKey``, ``storageClass`` and ``tags`` of a table.

    Raises:
        MalformedError: One breaks a rule.
    """
    kms_key = table.parse_optional("kmsKey", str)
    if kms_key is None and "bucketKey" in table:
        table.refuse("bucketKey", "goes with kmsKey, which is not given")
    bucket_key = table.flag("bucketKey", True)
    storage_class = table.parse_optional("storageClass", _storage_class)
    tags = table.table("tags")
    texts = {name: tags.text(name, "") for name in tags.names()}
    return table.explain(
        lambda: ObjectSettings(
            kms_key=kms_key, bucket_key=bucket_key, storage_class=storage_class, tags=texts
        )
    )


def _check_tag(text: str, most: int) -> None:
    if len(text) > most or _TAG.fullmatch(text) is None:
        raise ValueError(
            f"tags: expected at most {most} letters, digits, spaces and + - = . _ : / @, "
            f"got {text[:most]!r}"
        )


def _storage_class(text: str) -> str:
    if text in _ARCHIVES:
        raise ValueError(f"{text}: pods could not read objects of an archive class")
    if _STORAGE_CLASS.fullmatch(text) is None:
        raise ValueError(f"not a storage class: {text[:80]!r}")
    return text
