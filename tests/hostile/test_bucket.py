"""Whoever may write to the bucket: a pod takes nothing from them that was not published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.reference import S3Prefix
from tests.hostile.limited import visible_files
from tests.hostile.releases import ARCHIVE, CHECKPOINT
from tests.integration.fetching import log_in
from tests.integration.released_in_s3 import s3_client
from tests.rehearsal.s3 import S3
from tests.small_release import noise

RELEASES, WEIGHTS = "releases/demo", "model.safetensors"


class Bucket:
    """A bucket with a release in it, and a pod that was told to take that one."""

    def __init__(self, server: S3, name: str, release: Path) -> None:
        self.server = server
        self.name = name
        manifest = (release / MANIFEST_NAME).read_bytes()
        self.files = contents(release)
        self.digest = Digest.of(manifest)
        checkpoint = decode_manifest(manifest).checkpoint(CHECKPOINT)
        self.source = S3Prefix(name, f"checkpoints/{CHECKPOINT}/{checkpoint.identity.id16}")
        self.put_release(release)
        for path, content in self.files.items():
            self.put(self.source.key(path), content)

    def put_release(self, release: Path) -> None:
        """Write all that lies below ``releases/``."""
        for path in release.iterdir():
            if path.suffix not in {".tar", ".gz"}:
                self.put(f"{RELEASES}/{path.name}", path.read_bytes())

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whatever is there."""
        s3_client(self.server).put_object(Bucket=self.name, Key=key, Body=content)

    def fetch(self, destination: Path) -> subprocess.CompletedProcess[str]:
        """Start as the pod's init container does."""
        manifest = f"s3://{self.name}/{RELEASES}/{MANIFEST_NAME}"
        argv = [sys.executable, "-m", "bundler", "fetch", str(self.source), str(destination)]
        argv += ["--manifest", manifest, "--manifest-sha256", self.digest.hex]
        environment = {**os.environ, "AWS_ENDPOINT_URL_S3": self.server.url}
        return subprocess.run(
            [*argv, "--checkpoint", CHECKPOINT],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


def contents(release: Path) -> dict[str, bytes]:
    """Give the files of the checkpoint, as its archive has them."""
    archive = (release / ARCHIVE).read_bytes()
    checkpoint = decode_manifest((release / MANIFEST_NAME).read_bytes()).checkpoint(CHECKPOINT)
    return {file.path: archive[file.offset : file.offset + file.size] for file in checkpoint.files}


@pytest.fixture
def bucket(s3: S3, s3_bucket: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    log_in(s3, monkeypatch)
    monkeypatch.setenv("AWS_REGION", s3.region)
    return Bucket(s3, s3_bucket, good)


def other_weights(bucket: Bucket, older: Path) -> None:
    size = len(bucket.files[WEIGHTS])
    bucket.put(bucket.source.key(WEIGHTS), noise(size, 99))


def other_manifest(bucket: Bucket, older: Path) -> None:
    bucket.put(f"{RELEASES}/{MANIFEST_NAME}", (older / MANIFEST_NAME).read_bytes())


def older_release(bucket: Bucket, older: Path) -> None:
    """Put an older signed release in the place of this one, its weights too."""
    bucket.put_release(older)
    for path, content in contents(older).items():
        bucket.put(bucket.source.key(path), content)


def test_what_was_published_is_taken(bucket: Bucket, tmp_path: Path) -> None:
    done = bucket.fetch(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert visible_files(tmp_path / "out") == sorted(bucket.files)


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (other_weights, WEIGHTS),
        (other_manifest, MANIFEST_NAME),
        (older_release, MANIFEST_NAME),
    ],
)
def test_a_pod_takes_nothing_that_was_not_published(
    bucket: Bucket,
    good: Path,
    tmp_path: Path,
    attack: Callable[[Bucket, Path], object],
    says: str,
) -> None:
    older = Path(shutil.copytree(good, tmp_path / "older"))
    path = older / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"sequence": 1', b'"sequence": 9'))
    attack(bucket, older)
    done = bucket.fetch(tmp_path / "out")
    assert done.returncode == 5, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert WEIGHTS not in visible_files(tmp_path / "out")
