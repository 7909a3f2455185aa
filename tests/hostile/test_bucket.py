"""Whoever may write to the bucket: a pod takes nothing from them that was not published."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.lockfile import lock_path
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.reference import S3Prefix
from tests.hostile.limited import visible_files
from tests.integration.fetching import log_in
from tests.integration.release_inputs import edit_spec, safetensors, write_inputs
from tests.integration.released_in_s3 import s3_client
from tests.integration.signing import bundle
from tests.rehearsal.s3 import S3
from tests.small_release import noise

RELEASES, WEIGHTS = "releases/demo", "model.safetensors"
CHECKPOINT = "one_1"


class Bucket:
    """A bucket with a release in it, and a pod that was told to take that one."""

    def __init__(self, server: S3, name: str, release: Path) -> None:
        self.server = server
        self.name = name
        self.release = release
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
    checkpoint = decode_manifest((release / MANIFEST_NAME).read_bytes()).checkpoint(CHECKPOINT)
    archive = (release / checkpoint.archive).read_bytes()
    return {file.path: archive[file.offset : file.offset + file.size] for file in checkpoint.files}


@dataclass(frozen=True)
class Releases:
    """Two of one vendor, built and signed by the command: other weights, and the key of both."""

    newer: Path
    older: Path
    key: Path


def build(spec: Path, out: Path, key: Path) -> Path:
    done = bundle("build", spec, "-o", out)
    assert done.returncode == 0, done.stderr
    release = Path(done.stdout.strip())
    signed = bundle("sign", release, "--key", key)
    assert signed.returncode == 0, signed.stderr
    return release


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Releases:
    need("skopeo")
    work = tmp_path_factory.mktemp("vendor")
    assert bundle("keygen", work / "release", "--no-passphrase").returncode == 0
    spec = write_inputs(work / "in")
    newer = build(spec, work / "newer", work / "release.key")
    weights = safetensors({"layer.0": b"older weights" * 400})
    (spec.parent / "models" / "one" / WEIGHTS).write_bytes(weights)
    edit_spec(spec, "sequence: 3", "sequence: 2")
    edit_spec(spec, "version: 2026.11.0", "version: 2026.10.0")
    lock_path(spec).unlink()
    older = build(spec, work / "older", work / "release.key")
    return Releases(newer, older, work / "release.pub")


@pytest.fixture
def bucket(s3: S3, s3_bucket: str, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    log_in(s3, monkeypatch)
    monkeypatch.setenv("AWS_REGION", s3.region)
    return Bucket(s3, s3_bucket, releases.newer)


def test_both_releases_are_good_ones(releases: Releases) -> None:
    """Whoever has the bucket has them from the vendor, and both are signed by the same key."""
    for release in (releases.newer, releases.older):
        done = bundle("verify", release, "--key", releases.key)
        assert done.returncode == 0, done.stderr
    assert contents(releases.newer)[WEIGHTS] != contents(releases.older)[WEIGHTS]


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


def weights_of_the_older(bucket: Bucket, older: Path) -> None:
    bucket.put(bucket.source.key(WEIGHTS), contents(older)[WEIGHTS])


def all_but_the_manifest(bucket: Bucket, older: Path) -> None:
    manifest = (bucket.release / MANIFEST_NAME).read_bytes()
    older_release(bucket, older)
    bucket.put(f"{RELEASES}/{MANIFEST_NAME}", manifest)


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (other_weights, WEIGHTS),
        (weights_of_the_older, WEIGHTS),
        (other_manifest, MANIFEST_NAME),
        (older_release, MANIFEST_NAME),
        (all_but_the_manifest, WEIGHTS),
    ],
)
def test_a_pod_takes_nothing_that_was_not_published(
    bucket: Bucket,
    releases: Releases,
    tmp_path: Path,
    attack: Callable[[Bucket, Path], object],
    says: str,
) -> None:
    attack(bucket, releases.older)
    done = bucket.fetch(tmp_path / "out")
    assert done.returncode == 5, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert WEIGHTS not in visible_files(tmp_path / "out")
