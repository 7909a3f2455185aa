"""A release that somebody copied to a bucket, and clients that read it there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from bundler.reference import S3Prefix
from bundler.release_files import ReleaseFiles, ReleaseInBucket
from bundler.stores.opening import open_folder
from tests.rehearsal.s3 import S3

PREFIX = "releases/demo"


@dataclass(frozen=True)
class Copied:
    """Where it lies.

    Attributes:
        server: What it lies on.
        where: Its prefix.
        directory: What it was copied from.
    """

    server: S3
    where: S3Prefix
    directory: Path

    def files(self, url: str | None = None) -> ReleaseFiles:
        """List it, at the server itself or through a proxy."""
        folder = open_folder(self.where, endpoint=url or self.server.url, region=self.server.region)
        return ReleaseInBucket(folder)

    def again(self) -> Copied:
        """Have the server copy all of it to another new bucket, where a test may change it."""
        other, client = _new_place(self.server, self.directory), s3_client(self.server)
        for path in sorted(self.directory.iterdir()):
            client.copy_object(
                Bucket=other.where.bucket,
                Key=other.where.key(path.name),
                CopySource={"Bucket": self.where.bucket, "Key": self.where.key(path.name)},
            )
        return other

    def put(self, name: str, content: bytes) -> None:
        """Store an object beside the others, or in the place of one of them."""
        s3_client(self.server).put_object(
            Bucket=self.where.bucket, Key=self.where.key(name), Body=content
        )

    def flip(self, name: str, offset: int) -> None:
        """Change one byte of an archive, as it is in the bucket."""
        content = bytearray((self.directory / name).read_bytes())
        content[offset] ^= 1
        self.put(name, bytes(content))

    def delete(self, name: str) -> None:
        """Remove an object."""
        s3_client(self.server).delete_object(Bucket=self.where.bucket, Key=self.where.key(name))


def s3_client(server: S3) -> Any:
    """Give boto3's client for a server."""
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=server.credentials.secret_key,
    )


def copy_to(server: S3, directory: Path) -> Copied:
    """Copy a release directory to a new bucket, as `aws s3 cp --recursive` would."""
    copied = _new_place(server, directory)
    client = s3_client(server)
    for path in sorted(directory.iterdir()):
        client.upload_file(str(path), copied.where.bucket, copied.where.key(path.name))
    return copied


def _new_place(server: S3, directory: Path) -> Copied:
    bucket = f"release-{uuid.uuid4().hex[:12]}"
    server.create_bucket(bucket)
    return Copied(server, S3Prefix(bucket, PREFIX), directory)
