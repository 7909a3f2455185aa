"""A release in a bucket is published from there: images stream, parts are copied by the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bundler.archive.bundle_files import open_bundle_files
from bundler.cli import run
from bundler.errors import ContentError
from bundler.release import TrustedRelease, open_release
from tests.integration import test_publish as whole
from tests.integration.released_in_s3 import Copied, copy_to
from tests.integration.test_publish import Site
from tests.pushable import blob_offset
from tests.rehearsal.s3 import S3

site, big = whole.site, whole.big


@pytest.fixture
def copied(s3: S3, big: TrustedRelease) -> Copied:
    return copy_to(s3, big.directory)


def test_a_release_in_a_bucket_is_published_whole(
    site: Site, big: TrustedRelease, copied: Copied
) -> None:
    release = open_release(copied.files(), big.trust)
    receipt = site.publish(release, verify_first=True)
    assert receipt is not None
    for image in big.manifest.images:
        assert site.digest(image.tag) == image.digest
    stored = {key.rpartition("/")[2] for key in site.objects() if "/checkpoints/" in key}
    assert stored == {file.path for file in big.manifest.checkpoints[0].files}
    assert "parts go through this machine" not in site.said
    # Where it came from makes no difference to what is there.
    assert not site.plan(big).pending
    assert site.publish(release) is None


def test_a_damaged_image_in_the_bucket_is_never_tagged(
    site: Site, big: TrustedRelease, copied: Copied
) -> None:
    bundle, image = big.manifest.bundle, big.manifest.images[0]
    layer = max(image.blobs, key=lambda blob: blob.size)
    with open_bundle_files(big.directory, bundle) as files:
        copied.flip(bundle.archive, blob_offset(files, bundle, image, layer.digest))
    with pytest.raises(ContentError, match=r"atlas__1\.0\.0\.tar: expected blob"):
        site.publish(open_release(copied.files(), big.trust))
    assert site.digest(image.tag) is None


def test_the_command_line_reads_from_the_server_that_it_is_told(
    site: Site,
    big: TrustedRelease,
    copied: Copied,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = {
        "formatVersion": 1,
        "registry": {"host": "registry.invalid"},
        "s3": {
            "bucket": site.target.s3.place.bucket,
            "prefix": "llm",
            "region": site.target.s3.region,
            "endpoint": site.target.s3.endpoint,
        },
    }
    (tmp_path / "target.yaml").write_text(yaml.safe_dump(target))
    (tmp_path / "key.pub").write_bytes(big.signers[0].pem)
    monkeypatch.setenv("AWS_REGION", copied.server.region)
    where = [str(copied.where), "--source-endpoint", copied.server.url]
    where += ["--key", str(tmp_path / "key.pub")]
    assert run(["verify", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert run(["inspect", *where]) == 0
    assert "big_1.tar" in capsys.readouterr().out
    assert run(["extract", *where, "--only", "big_1", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == 66 << 20
    to_target = ["--target", str(tmp_path / "target.yaml"), "--only", "big"]
    assert run(["publish", *where, *to_target, "--yes"]) == 0
    assert run(["plan", *where, *to_target, "--detailed-exitcode"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://Not_A_Bucket/x"], "not a bucket name"),
        (["s3://bucket/a/../b"], "climbs"),
        ([".", "--source-region", "us-east-1"], "--source options go with s3://"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_options_for_directories_do_not_go_with_a_bucket(
    copied: Copied, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [str(copied.where), "--source-endpoint", copied.server.url, "--source-region", "x"]
    assert run(["verify", *where, "--volumes", str(tmp_path)]) == 2
    assert "--release and --volumes: expected a path" in capsys.readouterr().err
    assert run(["verify", *where, "--closure"]) == 2
    assert "--closure: expected a path" in capsys.readouterr().err
