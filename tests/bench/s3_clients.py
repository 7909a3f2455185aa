"""What S3 clients are told, and where they find it: in a home directory of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import boto3

from bundler.reference import S3Prefix
from tests.rehearsal import go_build, programs
from tests.rehearsal.go_programs import RCLONE, S5CMD
from tests.rehearsal.s3 import S3

# The settings that use two cores best; what is left out is at its default.
_TUNED = """\
s3 =
  max_concurrent_requests = 20
  multipart_threshold = 64MB
  multipart_chunksize = 64MB
  payload_signing_enabled = false
"""
_CHUNK_MIB, _AT_ONCE = 64, 4


def log_in(server: S3, home: Path) -> None:
    """Write what clients read in a home directory."""
    place = home / ".aws"
    place.mkdir(mode=0o700, parents=True)
    keys = server.credentials
    _write(
        place / "credentials",
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n",
    )
    config = f"[default]\nregion = {server.region}\nendpoint_url = {server.url}\n"
    config += f"ca_bundle = {server.ca_file}\n" if server.ca_file else ""
    _write(place / "config", config)
    _write(place / "tuned", config + _TUNED)
    _write(
        home / "rclone.conf",
        f"[s3]\ntype = s3\nprovider = Other\nendpoint = {server.url}\nregion = {server.region}\n"
        f"access_key_id = {keys.access_key}\nsecret_access_key = {keys.secret_key}\n",
    )


def upload_ours(release: Path, server: S3, place: S3Prefix, *options: str) -> list[str]:
    """Give the command that does what `bundle publish` does of a checkpoint."""
    argv = [sys.executable, "-m", "tests.bench.upload_ours", *options]
    argv += ["--ca", str(server.ca_file)] if server.ca_file else []
    return [*argv, str(release), server.url, server.region, str(place)]


def aws(home: Path, *arguments: str, tuned: bool = False) -> list[str]:
    """Give a command of the aws CLI; tuned, it sends large parts and signs no content."""
    program = programs.find_in_environment("aws")
    settings = [f"AWS_CONFIG_FILE={home / '.aws/tuned'}"] if tuned else []
    return ["env", *settings, program, "s3", *arguments]


def s5cmd(server: S3, *arguments: str) -> list[str]:
    """Give a command of s5cmd."""
    program = str(go_build.find(S5CMD))
    return [program, "--endpoint-url", server.url, "--log", "error", *arguments]


def rclone(home: Path, *arguments: str) -> list[str]:
    """Give a command of rclone, with the parts and the threads that the others have."""
    program = str(go_build.find(RCLONE))
    settings = ["--config", str(home / "rclone.conf"), "--s3-no-check-bucket"]
    settings += [f"--s3-chunk-size={_CHUNK_MIB}M", f"--s3-upload-concurrency={_AT_ONCE}"]
    return [program, *settings, *arguments]


def held(server: S3, place: S3Prefix) -> dict[str, int]:
    """Give the size of each object below a prefix, by its key."""
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        verify=str(server.ca_file) if server.ca_file else None,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=server.credentials.secret_key,
    )
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix=f"{place.prefix}/"
    )
    return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
