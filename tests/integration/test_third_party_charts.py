"""Charts of others: every image is found, locked and carried, and that can be proven offline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.build import BuiltRelease, lock_release
from bundler.errors import ContentError, MalformedError
from bundler.events import Event, Noted
from bundler.lockfile import lock_path, read_lock
from bundler.manifest import Manifest
from bundler.manifest_codec import encode_manifest
from bundler.reference import ImageTag
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.go_charts import CHARTS, chart_archive
from tests.integration.building import build, refused, spec_path, tools
from tests.integration.chart_archives import POD, package, rendered
from tests.integration.release_inputs import load_spec, write_layout
from tests.rehearsal.fixtures import need as need_rehearsal
from tests.rehearsal.registry import Registry
from tests.small_release import sign_anything, sign_manifest_bytes

__all__ = ["spec_path", "tools"]

MINIO = "quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z"
MC = "quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z"
KWOK = "registry.k8s.io/kwok/kwok:v0.6.1"
NAME = "test-release-2026.11.0"


@pytest.fixture
def mirrored(registry: Registry, tmp_path: Path) -> Callable[[str], None]:
    """Let a local registry stand for the public ones; gives what puts a stand-in image there."""
    hosts = ("quay.io", "registry.k8s.io", "q.io", "docker.io")
    conf = Path.home() / ".config" / "containers" / "registries.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(
        "".join(
            f'[[registry]]\nlocation = "{host}"\n[[registry.mirror]]\n'
            f'location = "{registry.address}/{host}"\ninsecure = true\n'
            for host in hosts
        )
    )

    def put(reference: str) -> None:
        layout = tmp_path / "stand-ins" / reference.replace("/", "-").replace(":", "-")
        write_layout(layout, text=f"this stands for {reference}")
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:1.0.0"]
        subprocess.run([*copy, f"docker://{registry.address}/{reference}"], check=True)

    return put


def add_chart(spec: Path, archive: Path, **fields: Any) -> Path:
    """Name a chart in a spec; gives where its archive lies."""
    content = yaml.safe_load(spec.read_text())
    place = spec.parent / archive.name
    shutil.copy(archive, place)
    entry = {"source": archive.name, "images": "discover", "startsLater": [], "attached": False}
    content.setdefault("charts", []).append(entry | fields)
    spec.write_text(yaml.safe_dump(content, sort_keys=False))
    return place


@pytest.fixture
def key() -> PrivateKey:
    return read_private_key(new_key_pair(None)[0], None, name="test key")


@pytest.fixture
def real_release(
    spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None], key: PrivateKey
) -> BuiltRelease:
    """Give a signed release with two real charts of others."""
    for reference in (MINIO, MC, KWOK):
        mirrored(reference)
    minio, kwok = (
        need_rehearsal(partial(chart_archive, CHARTS[name])) for name in ("minio", "kwok")
    )
    (spec_path.parent / "minio.yaml").write_text("mode: standalone # as we want it\n")
    add_chart(spec_path, minio, values="minio.yaml", names={MC: "mc"})
    add_chart(spec_path, kwok, name="fake-nodes")
    built = build(spec_path, tmp_path / "out")
    sign_anything(built.directory, key)
    return built


def bundle(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bundler", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def closure(path: Path, key: PrivateKey, *more: str | Path) -> subprocess.CompletedProcess[str]:
    public = path.parent / "vendor.pub"
    public.write_bytes(key.public.pem)
    return bundle("verify", path, "--key", public, "--closure", *more)


def test_real_charts_travel_whole(
    real_release: BuiltRelease, spec_path: Path, tmp_path: Path, key: PrivateKey
) -> None:
    manifest, directory = real_release.manifest, real_release.directory
    images = {str(image.tag): image for image in manifest.images}
    minio = "minio-minio:RELEASE.2024-12-18T13-15-44Z"
    assert {minio, "mc:RELEASE.2024-11-21T17-21-54Z", "kwok-kwok:v0.6.1"} < images.keys()
    assert images[minio].source == f"docker://{MINIO}"
    assert [(c.name, c.path, c.values) for c in manifest.charts[1:]] == [
        ("minio", "charts/minio-5.4.0.tgz", "charts/minio.values.yaml"),
        ("fake-nodes", "charts/fake-nodes-0.1.2.tgz", None),
    ]

    extracted = tmp_path / "extracted"
    extracted.mkdir()
    archive = directory / f"{NAME}.tar.gz"
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(extracted)], check=True)
    root = extracted / NAME
    original = spec_path.parent / "minio-5.4.0.tgz"
    assert (root / "charts" / "minio-5.4.0.tgz").read_bytes() == original.read_bytes()
    guide = (root / "README.md").read_text()
    assert f"| `{MINIO}` | `<registry-host>/minio-minio@{images[minio].digest}` |" in guide
    assert "helm install minio ./charts/minio-5.4.0.tgz -f ./charts/minio.values.yaml" in guide

    for path in (directory, directory / f"{NAME}.tar.gz", root):
        done = closure(path, key, "--release", directory)
        assert done.returncode == 0, done.stderr
        assert "containers/kwok-kwok__v0.6.1.tar" in done.stdout
        assert "Deployment/inference-m0" in done.stdout
        assert "note: chart inference: rendered with everything switched on; " in done.stderr
        assert "registry.invalid and the models m0, m1, ... stand for" in done.stderr
    done = closure(directory, key, "--json")
    told, events = json.loads(done.stdout), map(json.loads, done.stderr.splitlines())
    assert {event["event"] for event in events} == {"noted"}
    assert told["ok"] is True
    assert [chart["name"] for chart in told["charts"]] == ["inference", "minio", "fake-nodes"]

    (root / "containers" / "kwok-kwok__v0.6.1.tar").unlink()
    done = closure(root, key, "--release", directory)
    assert done.returncode == 8
    assert "DAMAGED: containers/kwok-kwok__v0.6.1.tar" in done.stdout
    assert "image kwok-kwok:v0.6.1" in done.stderr


def test_an_image_that_a_release_lacks_is_named(
    real_release: BuiltRelease, key: PrivateKey
) -> None:
    directory, manifest = real_release.directory, real_release.manifest
    less = tuple(image for image in manifest.images if image.tag.name != "mc")
    sign_manifest_bytes(directory, encode_manifest(replace(manifest, images=less)), key)
    done = closure(directory, key)
    assert done.returncode == 8
    assert (
        f"chart minio: Job/minio-post-job, minio-make-user: {MC}: not in the release" in done.stderr
    )
    told = json.loads(closure(directory, key, "--json").stdout)
    assert told["ok"] is False
    assert [
        i["archive"] for chart in told["charts"] for i in chart["images"] if i["image"] == MC
    ] == [None]


def as_attached(manifest: Manifest, name: str) -> Manifest:
    """Give the manifest in which an image is said to be attached to another one like it."""
    [image] = [image for image in manifest.images if image.tag.name == name]
    other = replace(image, tag=ImageTag(name, "other"), source="docker://q.io/other:1")
    attached = replace(image, platforms=(), subject=image.digest)
    images = (*(one for one in manifest.images if one != image), other, attached)
    file = replace(manifest.bundle.file(image.tag.archive_path), path=other.tag.archive_path)
    files = sorted((*manifest.bundle.files, file), key=lambda one: one.path.encode())
    return replace(manifest, images=images, bundle=replace(manifest.bundle, files=tuple(files)))


def test_what_is_attached_to_an_image_is_not_the_image_that_a_chart_names(
    real_release: BuiltRelease, key: PrivateKey
) -> None:
    changed = as_attached(as_attached(real_release.manifest, "mc"), "atlas")
    sign_manifest_bytes(real_release.directory, encode_manifest(changed), key)
    done = closure(real_release.directory, key)
    assert done.returncode == 8
    assert f"{MC}: not in the release" in done.stderr
    assert "registry.invalid/atlas:1.0.0: not in the release" in done.stderr


def test_the_same_lock_gives_the_same_bytes(
    real_release: BuiltRelease, spec_path: Path, tmp_path: Path
) -> None:
    lock = read_lock(lock_path(spec_path))
    assert lock == lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    again = build(spec_path, tmp_path / "again", lock)
    assert again.manifest == real_release.manifest


def test_a_lock_can_be_reviewed(real_release: BuiltRelease, spec_path: Path) -> None:
    done = bundle("lock", spec_path)
    assert done.returncode == 0, done.stderr
    assert "minio 5.4.0: 2 images" in done.stdout
    assert "Job/minio-post-job minio-make-user (container)" in done.stdout
    written = json.loads(lock_path(spec_path).read_text())["charts"]
    assert [image["image"] for image in written[0]["images"]] == [MC, MINIO]
    told = json.loads(bundle("lock", spec_path, "--json").stdout)
    assert told == {"lock": str(lock_path(spec_path)), "charts": written, "converted": []}
    assert written[0]["images"][0]["foundIn"] == ["Job/minio-post-job minio-make-user (container)"]


HIDDEN = {"templates/a.yaml": rendered("Pod", POD)}


@pytest.fixture
def small(spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None]) -> Path:
    """Give the archive of a small chart beside the spec that names it."""
    mirrored("q.io/a/hidden:1")
    (tmp_path / "made").mkdir()
    (spec_path.parent / "some.yaml").write_text("enabled: true\n")
    return add_chart(spec_path, package(tmp_path / "made", HIDDEN), values="some.yaml")


def test_a_chart_that_changed_since_it_was_locked_is_refused(
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    (small.parent / "some.yaml").write_text("enabled: false\n")
    error = refused(spec_path, tmp_path / "out", ContentError, lock)
    assert "values some.yaml: expected sha256:" in str(error)
    (small.parent / "some.yaml").write_text("enabled: true\n")
    (tmp_path / "other").mkdir()
    shutil.copy(package(tmp_path / "other", HIDDEN | {"templates/b.yaml": "a: b"}), small)
    error = refused(spec_path, tmp_path / "out", ContentError, lock)
    assert "chart some-1.2.3.tgz: expected sha256:" in str(error)


def test_a_chart_that_names_other_images_than_locked_is_refused(
    spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None]
) -> None:
    mirrored("docker.io/a/hidden:1")
    (tmp_path / "made").mkdir()
    files = {"templates/a.yaml": rendered("Pod", POD.replace("q.io", "docker.io"))}
    add_chart(spec_path, package(tmp_path / "made", files))
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    [chart] = lock.charts
    spelled = replace(chart.images[0], reference="a/hidden:1")
    lock = replace(lock, charts=(replace(chart, images=(spelled,)),))
    error = refused(spec_path, tmp_path / "out", ContentError, lock)
    assert "docker.io/a/hidden:1 is not locked; a/hidden:1 is not named any more" in str(error)


def test_an_archive_is_what_the_spec_says_it_is(
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    text = spec_path.read_text().replace("values: some.yaml", f"sha256: {'a' * 64}")
    spec_path.write_text(text)
    error = refused(spec_path, tmp_path / "out", ContentError)
    assert "sha256 in the spec" in str(error.hint)


def test_a_lock_that_calls_a_chart_otherwise_is_refused(
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    plain = spec_path.read_text()
    named = plain.replace("values: some.yaml", "values: some.yaml\n  name: other")
    for before, after in ((plain, named), (named, plain)):
        spec_path.write_text(before)
        lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
        spec_path.write_text(after)
        error = refused(spec_path, tmp_path / "out", MalformedError, lock)
        assert "lock calls it" in str(error)
        assert "bundle lock" in str(error.hint)


def test_two_charts_cannot_have_one_place_in_the_bundle(
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    for number, (name, version) in enumerate((("a", "1.0.0-2.0.0"), ("a-1.0.0", "2.0.0"))):
        about = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n"}
        (tmp_path / f"made{number}").mkdir()
        archive = package(tmp_path / f"made{number}", HIDDEN | about)
        add_chart(spec_path, archive.rename(archive.with_name(f"{number}.tgz")))
    error = refused(spec_path, tmp_path / "out", MalformedError)
    assert "path 'charts/a-1.0.0-2.0.0.tgz' stands there 2 times" in str(error)


def test_what_is_no_image_is_shown_with_its_reason(
    spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None], key: PrivateKey
) -> None:
    mirrored("q.io/a/hidden:1")
    (tmp_path / "made").mkdir()
    data = rendered("ConfigMap", "data: {address: 'gateway.example.com/path:80'}")
    archive = package(tmp_path / "made", HIDDEN | {"templates/b.yaml": data})
    reason = "an address of the gateway"
    refusal = {"image": "gateway.example.com/path:80", "reason": reason}
    add_chart(spec_path, archive, name="Some_Chart", notImages=[refusal])
    done = bundle("lock", spec_path)
    assert done.returncode == 0, done.stderr
    assert f"not an image: {reason}" in done.stdout
    assert json.loads(lock_path(spec_path).read_text())["charts"][0]["notImages"] == [refusal]
    built = build(spec_path, tmp_path / "out", read_lock(lock_path(spec_path)))
    sign_anything(built.directory, key)
    done = closure(built.directory, key)
    assert done.returncode == 0, done.stderr
    [row] = [line for line in done.stdout.splitlines() if "gateway.example.com" in line]
    assert row.split()[:2] == ["ConfigMap/x", "data.address"]
    assert row.strip().endswith(f"not an image: {reason}")
    told = json.loads(closure(built.directory, key, "--json").stdout)["charts"][1]["notImages"]
    assert [(item["image"], item["reason"]) for item in told] == [(refusal["image"], reason)]

    archive = built.directory / f"{NAME}.tar.gz"
    guide = subprocess.run(
        ["tar", "-xzOf", str(archive), f"{NAME}/README.md"], check=True, capture_output=True
    )
    assert b"helm install some-chart ./charts/Some_Chart-1.2.3.tgz" in guide.stdout


def test_two_charts_cannot_have_one_name(small: Path, spec_path: Path, tmp_path: Path) -> None:
    text = spec_path.read_text().replace("values: some.yaml", "name: inference")
    spec_path.write_text(text)
    assert "inference" in str(refused(spec_path, tmp_path / "out", MalformedError))


def test_a_directory_is_refused(small: Path, spec_path: Path, tmp_path: Path) -> None:
    small.unlink()
    small.mkdir()
    error = refused(spec_path, tmp_path / "out", MalformedError)
    assert "helm package" in str(error.hint)


def test_a_missing_image_ends_the_build(small: Path, spec_path: Path, tmp_path: Path) -> None:
    text = spec_path.read_text().replace("startsLater: []", "startsLater: ['q.io/a/later:1']")
    spec_path.write_text(text)
    done = bundle("build", spec_path, "-o", tmp_path / "out")
    assert done.returncode == 9
    assert "q.io/a/later" in done.stderr


def test_everything_that_no_registry_has_is_told_at_once(
    spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None]
) -> None:
    mirrored("q.io/a/hidden:1")
    data = rendered("ConfigMap", "data: {address: 'q.io/gateway:9091'}")
    made = {
        "a": HIDDEN | {"templates/b.yaml": data},
        "b": {"templates/a.yaml": rendered("Pod", POD.replace("hidden:1", "gone:2"))},
    }
    for name, files in made.items():
        (tmp_path / name).mkdir()
        archive = package(tmp_path / name, files)
        add_chart(spec_path, archive.rename(archive.with_name(f"{name}.tgz")), name=name)
    done = bundle("lock", spec_path)
    assert done.returncode == 9
    assert "error: 2 images cannot be taken\n" in done.stderr
    gone, gateway, hint = done.stderr.splitlines()[-3:]
    said = "docker://q.io/{}: expected an image there, found none ("
    assert gone.startswith(
        "chart b.tgz: Pod/x, main (container) names q.io/a/gone:2: " + said.format("a/gone:2")
    )
    assert gateway.startswith(
        "chart a.tgz: ConfigMap/x, data.address (setting) names q.io/gateway:9091: "
        + said.format("gateway:9091")
    )
    assert "if it is no image, name it in the chart's `notImages`" in hint
    assert "if it is not to run, switch it off in the chart's `values:`" in hint
    assert not lock_path(spec_path).exists()


def test_people_are_told_what_rendering_cannot_show(
    spec_path: Path, tmp_path: Path, mirrored: Callable[[str], None]
) -> None:
    mirrored("q.io/a/hidden:1")
    (tmp_path / "made").mkdir()
    files = HIDDEN | {"templates/b.yaml": '{{ if lookup "v1" "Secret" "" "" }}a: b{{ end }}'}
    add_chart(spec_path, package(tmp_path / "made", files))
    events: list[Event] = []
    build(spec_path, tmp_path / "out", emit=events.append)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert any("some/templates/b.yaml:1 (lookup)" in note for note in notes)
