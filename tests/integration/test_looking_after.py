"""``bundle status`` and ``bundle prune`` against a real S3 server and a real registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.archive.bundle_files import open_bundle_files
from bundler.digest import Digest
from bundler.parts import Span, s3_checksum, spans
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.layout import Layout, lay_out
from bundler.publish.memory import Remembered
from bundler.publish.objects import markers, release_files
from bundler.publish.pointer import Pointer, encode_pointer
from bundler.publish.push import push_images
from bundler.publish.values import make_values
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease
from bundler.signing.quorum import Quorum
from bundler.signing.tuf_roots import write_root
from bundler.stores.base import ObjectStore
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_bucket, open_registry
from bundler.stores.s3 import connect
from bundler.target import RegistryTarget, S3Target, Target
from bundler.trust_files import sign_root
from tests.fake_cluster import FakeCluster
from tests.integration.s3_proxy import proxy
from tests.publishable import SMALL, Recipe, make_publishable
from tests.rehearsal.registry import Registry
from tests.rehearsal.s3 import S3
from tests.roots import new_person

BUNDLE = Path(sys.prefix, "bin", "bundle")
_SECONDS = 120
_COPIES = 30
# Answer like helm and kubectl of a release whose values and memory are in files beside them.
_HELM = """#!/bin/sh
case "$1" in
history) cat "$(dirname "$0")/history.json" ;;
get) cat "$(dirname "$0")/values.json" ;;
*) exit 3 ;;
esac
"""
_KUBECTL = """#!/bin/sh
exec cat "$(dirname "$0")/configmap.json"
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("release") / "demo")


@dataclass
class Site:
    """A destination that holds one deployed release, and an operator's directory."""

    release: TrustedRelease
    directory: Path
    s3: S3
    bucket: str
    host: str
    store: ObjectStore
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return Target(
            registry=RegistryTarget(host=self.host, plain_http=True),
            s3=S3Target(place=S3Prefix(self.bucket, "llm"), endpoint=self.s3.url),
        )

    @property
    def layout(self) -> Layout:
        return lay_out(self.release.manifest, self.target)

    def write_target(self, *, endpoint: str = "", host: str = "") -> None:
        fields = {
            "formatVersion": 1,
            "registry": {"host": host or self.host, "plainHttp": True},
            "s3": {
                "bucket": self.bucket,
                "prefix": "llm",
                "region": self.s3.region,
                "endpoint": endpoint or self.s3.url,
            },
            "kubernetes": {"kubeconfig": "kubeconfig.yaml"},
        }
        (self.directory / "target.yaml").write_text(yaml.safe_dump(fields))

    def fill(self) -> None:
        """Put there what publish would have put."""
        registry = open_registry(self.host, logins=GivenLogin(), plain_http=True)
        manifest = self.release.manifest
        with open_bundle_files(self.release.directory, manifest.bundle) as files:
            push_images(registry, files, manifest.images)
        for name, place in self.layout.checkpoints.items():
            for path, content in SMALL.checkpoints[name].items():
                self.store.put(place.key(path), content)
        small = release_files(self.release, self.layout) | markers(self.release, self.layout)
        for key, content in small.items():
            self.store.put(key, content)
        self.store.replace(self.layout.pointer, encode_pointer(self.pointer))

    @property
    def pointer(self) -> Pointer:
        return Remembered().after(self.release)

    def answer_like_a_cluster(self) -> None:
        """Put a helm and a kubectl before all others that say: this release is deployed."""
        programs = self.directory / "programs"
        programs.mkdir()
        for name, script in (("helm", _HELM), ("kubectl", _KUBECTL)):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        cluster, memory = FakeCluster(), ClusterMemory(self.target.kubernetes)
        memory.write(cluster, self.pointer)
        found = cluster.get("configmap", memory.name)
        (programs / "configmap.json").write_text(json.dumps(found))
        chart = self.release.manifest.own_chart
        revision = {"revision": 1, "status": "deployed", "chart": f"{chart.name}-{chart.version}"}
        values = make_values(
            self.release.manifest,
            Digest.of(self.release.manifest_bytes),
            self.target,
            self.layout,
            chart_values={
                "image": {"name": "atlas", "tag": "1.0.0"},
                "downloader": {"image": {"name": "model-downloader", "tag": "1.0.0"}},
                "docs": {"image": {"name": "public-docs", "tag": "1.0.0"}},
            },
        )
        (programs / "history.json").write_text(json.dumps([revision]))
        (programs / "values.json").write_text(json.dumps(values))
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"

    def bundle(self, *arguments: str, check: int | None = None) -> dict[str, Any]:
        """Run the installed command; its JSON."""
        done = subprocess.run(
            [BUNDLE, *arguments, "--target", self.directory / "target.yaml", "--json"],
            env={**os.environ, **self.environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert check is None or done.returncode == check, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told | {"said": done.stderr}

    def key_option(self) -> tuple[str, str]:
        return "--key", str(self.directory / "release.pub")

    def keys(self) -> set[str]:
        return {item.key for item in self.store.list("")}


@pytest.fixture
def site(
    s3: S3,
    s3_bucket: str,
    registry: Registry,
    release: TrustedRelease,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need: Callable[[str], str],
) -> Site:
    need("helm")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)
    cluster = {"cluster": {"server": "https://127.0.0.1:1"}, "name": "none"}
    context = {"context": {"cluster": "none", "user": "nobody"}, "name": "none"}
    (tmp_path / "kubeconfig.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "contexts": [context],
                "users": [{"name": "nobody", "user": {}}],
                "current-context": "none",
            }
        )
    )
    (tmp_path / "release.pub").write_bytes(release.signers[0].pem)
    site = Site(
        release=release,
        directory=tmp_path,
        s3=s3,
        bucket=s3_bucket,
        host=f"{registry.address}/{s3_bucket}",
        store=open_bucket(s3_bucket, endpoint=s3.url, region=s3.region),
    )
    site.write_target()
    site.fill()
    return site


def subjects(told: Mapping[str, Any], **wanted: object) -> list[tuple[str, str, str]]:
    return [
        (item["subject"], item["standing"], item["name"])
        for item in told["findings"]
        if all(item[name] == value for name, value in wanted.items())
    ]


def test_a_release_that_is_whole_is_all_there_and_no_checkpoint_is_downloaded(site: Site) -> None:
    site.answer_like_a_cluster()
    with proxy(site.s3) as between:
        site.write_target(endpoint=between.url)
        told = site.bundle("status", *site.key_option(), check=0)
        reads = [call.path for call in between.calls if call.operation == "GetObject"]
    assert told["ok"]
    assert set(told["counts"]) >= {"present", "missing", "different", "foreign"}
    assert sum(told["counts"].values()) == told["counts"]["present"]
    images = [name for subject, _, name in subjects(told) if subject == "image"]
    assert images == [str(image.tag) for image in site.release.manifest.images]
    assert reads
    assert not [path for path in reads if "/checkpoints/" in path]
    site.write_target()
    by_name = site.bundle("status", str(site.release.directory), *site.key_option(), check=0)
    assert by_name["counts"] == told["counts"]


def test_an_unreachable_cluster_is_told_and_the_rest_is_judged(site: Site) -> None:
    told = site.bundle("status", *site.key_option(), check=0)
    unknown = [subject for subject, _, _ in subjects(told, standing="unknown")]
    assert unknown == ["current release", "chart"]


def test_drift_ends_with_8(site: Site) -> None:
    laguna, point = (site.layout.checkpoints[name] for name in ("laguna_1", "point_1"))
    site.store.delete(laguna.key("config.json"))
    content = SMALL.checkpoints["point_1"]["model.safetensors"]
    site.store.replace(point.key("model.safetensors"), content[:-1] + b"?")
    site.store.put(point.key("extra.py"), b"planted")
    told = site.bundle("status", *site.key_option(), "--only", "checkpoints", check=8)
    assert subjects(told, drift=True) == [
        ("checkpoint file", "missing", laguna.key("config.json")),
        ("checkpoint file", "different", point.key("model.safetensors")),
        ("other object", "foreign", point.key("extra.py")),
    ]
    assert site.bundle("status", *site.key_option(), "--only", "images", check=0)["ok"]


@pytest.mark.parametrize("by", ["the release there", "the directory"])
def test_what_travelled_and_does_not_hold_is_drift(site: Site, by: str) -> None:
    """No tool of others takes garbage for a signature: all is not well."""
    [key8] = site.release.signatures
    named = (f"SHA256SUMS.{key8}.sigstore.json", f"laguna_1.{key8}.oms.json")
    keys = [site.layout.release.key(name) for name in named]
    for key in keys:
        site.store.replace(key, b"garbage")
    stranger = site.layout.release.key("provenance.01234567.sigstore.json")
    unproven = site.layout.release.key("trust/1.root.json")
    for key in (stranger, unproven):
        site.store.put(key, b"garbage")
    release = () if by == "the release there" else (str(site.release.directory),)
    arguments = (*release, *site.key_option(), "--only", "checkpoints")
    told = site.bundle("status", *arguments, check=8)
    assert subjects(told, drift=True) == [("release file", "different", key) for key in keys]
    for key in keys:
        [finding] = [item for item in told["findings"] if item["name"] == key]
        assert finding["detail"].startswith(f"does not hold: s3://{site.bucket}/{key}: ")
    assert subjects(told, standing="unknown") == [("release file", "unknown", unproven)]


def test_a_trust_file_there_that_does_not_hold_is_drift(site: Site) -> None:
    """Whoever has an older one is refused by it, or would follow it."""
    holder = new_person()
    [signer] = site.release.signers
    trusted = write_root(1, Quorum.of([holder.public, signer], 1, name="1"), "2090-01-01T00:00:00Z")
    vendor = site.directory / "vendor.root.json"
    vendor.write_bytes(trusted)
    sign_root(vendor, holder.private)
    good, key = vendor.read_bytes(), site.layout.release.key("trust/1.root.json")
    arguments = ("--trust", str(vendor), "--only", "checkpoints")
    for content, status in ((good, 0), (b"garbage", 8), (trusted, 8)):
        site.store.replace(key, content)
        told = site.bundle("status", str(site.release.directory), *arguments, check=status)
        wrong = [("release file", "different", key)] if status else []
        assert subjects(told, drift=True) == wrong


def test_a_registry_that_cannot_be_reached_ends_with_9(site: Site) -> None:
    site.write_target(host="127.0.0.1:1/none")
    told = site.bundle("status", *site.key_option(), check=9)
    assert ("registry", "unknown", "127.0.0.1:1/none") in subjects(told)
    assert len(subjects(told, standing="present")) > 10


def test_a_tag_that_was_moved_is_drift(site: Site, tmp_path: Path) -> None:
    registry = open_registry(site.host, logins=GivenLogin(), plain_http=True)
    atlas, other = (site.release.manifest.images[n].tag for n in (0, 1))
    content = registry.manifest(atlas.name, atlas.tag)
    assert content is not None
    changed = content.content.replace(b"{", b"{ ", 1)
    kind = json.loads(content.content)["mediaType"]
    registry.put_manifest(atlas.name, atlas.tag, kind, changed)
    told = site.bundle("status", *site.key_option(), "--only", "images", check=8)
    assert subjects(told, drift=True) == [("image", "different", str(atlas))]
    assert ("image", "present", str(other)) in subjects(told)


def test_without_a_key_nothing_is_judged(site: Site) -> None:
    for command in ("status", "prune"):
        assert "no public key was given" in site.bundle(command, check=4)["error"]


def test_a_multipart_object_is_compared_by_its_composite(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weights = b"\x07" * (65 << 20)
    recipe = Recipe(checkpoints={"big_1": {"w": weights}}, models={"big": "big_1"})
    big = make_publishable(tmp_path_factory.mktemp("big") / "big", recipe)
    (file,) = big.manifest.checkpoint("big_1").files
    key = lay_out(big.manifest, site.target).checkpoints["big_1"].key("w")
    client = connect(endpoint=site.s3.url, region=site.s3.region)

    def upload(content: bytes, cut: Sequence[Span]) -> None:
        where = {"Bucket": site.bucket, "Key": key}
        begun = client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")  # type: ignore[arg-type]
        parts: list[Any] = []
        for span in cut:
            part = content[span.offset : span.offset + span.length]
            digest = Digest.of(part).base64
            done = client.upload_part(
                Bucket=site.bucket, Key=key, UploadId=begun["UploadId"],
                PartNumber=span.number, Body=part, ChecksumSHA256=digest,
            )  # fmt: skip
            parts.append(
                {"PartNumber": span.number, "ETag": done["ETag"], "ChecksumSHA256": digest}
            )
        client.complete_multipart_upload(
            Bucket=site.bucket,
            Key=key,
            UploadId=begun["UploadId"],
            MultipartUpload={"Parts": parts},
        )

    (site.directory / "big.pub").write_bytes(big.signers[0].pem)
    arguments = (
        "status", str(big.directory), "--key", str(site.directory / "big.pub"), "--only", "big",
    )  # fmt: skip
    upload(weights, file.spans())
    found = site.store.head(key)
    assert found is not None
    assert found.checksum == s3_checksum(file.parts)
    told = site.bundle(*arguments)
    assert ("checkpoint file", "present", key) in subjects(told)
    upload(weights[:-1] + b"\x08", file.spans())
    told = site.bundle(*arguments, check=8)
    assert ("checkpoint file", "different", key) in subjects(told)
    upload(weights, list(spans(len(weights), 32 << 20)))
    told = site.bundle(*arguments, check=8)
    assert ("checkpoint file", "different", key) in subjects(told)
    told = site.bundle(*arguments, "--read-back")
    assert ("checkpoint file", "present", key) in subjects(told)


def old_copies(site: Site) -> list[str]:
    """Put copies of a checkpoint there, below keys of models that are no longer served."""
    id16 = site.release.manifest.checkpoint("laguna_1").identity.id16
    contents = {
        f"llm/checkpoints/gone-{number}/{id16}/{path}": content
        for number in range(_COPIES)
        for path, content in SMALL.checkpoints["laguna_1"].items()
    }
    for key, content in contents.items():
        site.store.put(key, content)
    return list(contents)


def test_prune_shows_first_and_deletes_with_yes_only(site: Site) -> None:
    site.answer_like_a_cluster()
    old = old_copies(site)
    foreign = f"{old[0].rpartition('/')[0]}/our-own-eval.json"
    site.store.put(foreign, b"theirs")
    before = site.keys()
    arguments = ("prune", *site.key_option(), "--older-than", "0s")
    time.sleep(1.1)  # the server counts whole seconds
    told = site.bundle(*arguments, check=10)
    going = told["plan"]["going"]
    assert [item["thing"] for item in going] == ["checkpoint"] * _COPIES
    assert {key for item in going for key in item["objects"]} == set(old)
    assert told["plan"]["foreign"] == [foreign]
    assert told["done"] is None
    assert "give --yes" in told["said"]
    assert site.keys() == before
    told = site.bundle(*arguments, "--yes", check=0)
    assert told["done"]["deletedObjects"] == len(old)
    assert site.keys() == before - set(old)
    assert site.bundle(*arguments, "--yes", check=0)["plan"]["going"] == []
    assert site.bundle("status", *site.key_option(), check=0)["ok"]


@pytest.mark.parametrize(("answer", "status"), [(b"n\n", 10), (b"y\n", 0)])
def test_prune_asks_whoever_sits_there(site: Site, answer: bytes, status: int) -> None:
    site.answer_like_a_cluster()
    site.store.put("llm/checkpoints/run/0123456789abcdef/step1.pt", b"w")
    old, before = old_copies(site), site.keys()
    time.sleep(1.1)
    argv = [str(BUNDLE), "prune", "--target", "target.yaml", *site.key_option()]
    ours, theirs = os.openpty()
    os.write(ours, answer)
    done = subprocess.run(
        [*argv, "--older-than", "0s"],
        env={**os.environ, **site.environment},
        cwd=site.directory,
        stdin=theirs,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == status, done.stderr
    assert b"- checkpoint s3://" in done.stderr
    assert f"    {old[0]}\n".encode() in done.stderr
    assert b"    llm/checkpoints/run/0123456789abcdef/ (1 object, 1 B)\n" in done.stderr
    assert site.keys() == (before if status else before - set(old))


def test_prune_deletes_nothing_where_the_cluster_cannot_be_asked(site: Site) -> None:
    old_copies(site)
    before = site.keys()
    told = site.bundle("prune", *site.key_option(), "--older-than", "0s", "--yes", check=9)
    assert "nobody can say what is deployed" in told["error"]
    assert "--release NAME" in told["hint"]
    assert site.keys() == before


def test_prune_goes_on_after_a_kill(site: Site) -> None:
    site.answer_like_a_cluster()
    old, before = old_copies(site), site.keys()
    time.sleep(1.1)
    argv = [str(BUNDLE), "prune", "--target", "target.yaml", *site.key_option()]
    with proxy(site.s3) as between:
        site.write_target(endpoint=between.url)
        with subprocess.Popen(
            [*argv, "--older-than", "0s", "--yes"],
            env={**os.environ, **site.environment},
            cwd=site.directory,
            stderr=subprocess.DEVNULL,
        ) as process:
            while sum(call.method == "DELETE" for call in between.calls) < 10:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    left = set(old) & site.keys()
    assert 0 < len(left) < len(old)
    site.write_target()
    site.bundle("prune", *site.key_option(), "--older-than", "0s", "--yes", check=0)
    assert site.keys() == before - set(old)


def test_stale_uploads_are_ended_without_a_cluster_and_without_a_key(site: Site) -> None:
    client = connect(endpoint=site.s3.url, region=site.s3.region)
    for key in ("llm/checkpoints/a", "other/b"):
        client.create_multipart_upload(Bucket=site.bucket, Key=key)
    before = site.keys()
    assert site.bundle("prune", "--uploads", "--yes", check=0)["plan"]["going"] == []
    time.sleep(1.1)
    told = site.bundle("prune", "--uploads", "--older-than", "0s", "--yes", check=0)
    assert told["done"] == {"deletedObjects": 0, "hiddenObjects": 0, "endedUploads": 1}
    left = client.list_multipart_uploads(Bucket=site.bucket)["Uploads"]
    assert [item["Key"] for item in left] == ["other/b"]
    assert site.keys() == before
