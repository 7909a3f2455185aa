"""Charts of others: every image is found, locked and carried, and that can be proven offline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.build import BuiltRelease, lock_release
from bundler.charts.third_party import CarriedChart, FoundImages, find_images
from bundler.errors import CheckError, ContentError, MalformedError
from bundler.events import Event, Noted
from bundler.image_reference import ImageField
from bundler.lockfile import lock_path, read_lock
from bundler.manifest_charts import ChartRules
from bundler.manifest_codec import encode_manifest
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.go_charts import CHARTS, chart_archive
from tests.integration.building import build, refused, spec_path, tools
from tests.integration.release_inputs import load_spec, write_layout
from tests.rehearsal.fixtures import need as need_rehearsal
from tests.rehearsal.registry import Registry
from tests.small_release import sign_anything, sign_manifest_bytes

__all__ = ["spec_path", "tools"]

MINIO = "quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z"
MC = "quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z"
KWOK = "registry.k8s.io/kwok/kwok:v0.6.1"
NAME = "test-release-2026.11.0"
Files = Mapping[str, str]

# Held by hand against every line with an image in each chart's templates and values.
REAL: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "karpenter": (
        "settings: {clusterName: some}",
        [
            (
                "public.ecr.aws/karpenter/controller:1.5.0@sha256:"
                "339aef3f5ecdf6f94d1c7cc9d0e1d359c281b4f9b842877bdbf2acd3fa360521",
                "Deployment/karpenter controller",
            )
        ],
    ),
    "karpenter-crd": ("", []),
    "kwok": ("", [(KWOK, "Deployment/kwok-controller kwok")]),
    "minio": (
        "",
        [(MC, "Job/minio-post-job minio-make-user"), (MINIO, "StatefulSet/minio minio")],
    ),
    "stage-fast": ("", []),
    "versitygw": (
        "auth: {accessKey: some, secretKey: other}",
        [("ghcr.io/versity/versitygw:latest", "Deployment/versitygw versitygw")],
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_every_image_of_a_real_chart_is_found(name: str, tmp_path: Path) -> None:
    values, expected = REAL[name]
    archive = need_rehearsal(lambda: chart_archive(CHARTS[name]))
    carried = CarriedChart(
        name=name, content=archive.read_bytes(), values=values.encode(), rules=ChartRules()
    )
    found = find_images(carried, charts=Helm(), scratch=tmp_path)
    assert [(i.image, f"{i.object} {i.container}") for i in found.images] == expected


def test_a_hook_that_values_switch_on_is_found_in_a_real_chart(tmp_path: Path) -> None:
    archive = need_rehearsal(lambda: chart_archive(CHARTS["minio"]))
    values = b"mode: standalone\nbuckets: [{name: a}]\nusers: []\nmcImage: {tag: mine}\n"
    carried = CarriedChart(
        name="minio", content=archive.read_bytes(), values=values, rules=ChartRules()
    )
    found = find_images(carried, charts=Helm(), scratch=tmp_path)
    assert [(i.image, i.object) for i in found.images] == [
        ("quay.io/minio/mc:mine", "Job/minio-post-job"),
        (MINIO, "Deployment/minio"),
    ]


ABOUT = "apiVersion: v2\nname: some\nversion: 1.2.3\n"


def package(directory: Path, files: Files) -> Path:
    """Write a chart and give its archive."""
    top = directory / "source" / "some"
    for path, text in ({"Chart.yaml": ABOUT} | dict(files)).items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    command = ["helm", "package", str(top), "-d", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    [archive] = directory.glob("*.tgz")
    return archive


def find(tmp_path: Path, files: Files, values: str = "", **rules: Any) -> FoundImages:
    (tmp_path / "made").mkdir()
    content = package(tmp_path / "made", files).read_bytes()
    carried = CarriedChart(
        name="some", content=content, values=values.encode(), rules=ChartRules(**rules)
    )
    return find_images(carried, charts=Helm(), scratch=tmp_path)


def rendered(kind: str, body: str, annotations: str = "{}") -> str:
    return f"kind: {kind}\nmetadata: {{name: x, annotations: {annotations}}}\n{body}\n"


POD = "spec: {containers: [{name: main, image: 'q.io/a/hidden:1'}]}"
PLAIN = "spec: {containers: [{name: main, image: 'q.io/a/plain:1', %s}]}"
DEFINITION = """\
kind: CustomResourceDefinition
metadata: {name: things.example.com, annotations: {bundle/image-fields: spec.tool}}
spec: {names: {kind: Thing}}
"""
SUBCHART = {
    "Chart.yaml": ABOUT
    + "dependencies: [{name: sub, alias: other, version: 0.1.0, condition: other.enabled}]\n",
    "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
    "charts/sub/values.yaml": "tag: none",
    "charts/sub/templates/a.yaml": rendered("Pod", POD).replace(
        "hidden:1", "hidden:{{.Values.tag}}"
    ),
    "values.yaml": "other: {enabled: false, tag: '1'}",
}


@pytest.mark.parametrize(
    ("files", "values"),
    [
        ({"templates/a.yaml": rendered("Job", POD, "{helm.sh/hook: pre-delete}")}, ""),
        ({"templates/a.yaml": rendered("Pod", POD, "{helm.sh/hook: test}")}, ""),
        ({"crds/a.yaml": rendered("Strange", POD)}, ""),
        (
            {"templates/a.yaml": "{{ if .Values.enabled }}\n" + rendered("Pod", POD) + "{{ end }}"},
            "enabled: true",
        ),
        (
            {
                "templates/a.yaml": "{{ if .Release.IsUpgrade }}\n"
                + rendered("Pod", POD)
                + "{{ end }}"
            },
            "",
        ),
        (
            {
                "templates/a.yaml": "{{ if .Release.IsInstall }}\n"
                + rendered("Pod", POD)
                + "{{ end }}"
            },
            "",
        ),
        ({"templates/a.yaml": rendered("Thing", "spec: {image: q.io/a/hidden:1}")}, ""),
        (
            {
                "crds/d.yaml": DEFINITION,
                "templates/a.yaml": rendered("Thing", "spec: {tool: q.io/a/hidden:1}"),
            },
            "",
        ),
        ({"Chart.yaml": ABOUT + "annotations: {images: '[{image: q.io/a/hidden:1}]'}\n"}, ""),
        (
            {"Chart.yaml": ABOUT + "annotations: {helm.sh/images: '[{image: q.io/a/hidden:1}]'}\n"},
            "",
        ),
        (
            {
                "Chart.yaml": ABOUT
                + "annotations: {artifacthub.io/images: '[{name: h, image: q.io/a/hidden:1}]'}\n"
            },
            "",
        ),
        (SUBCHART, "other: {enabled: true}"),
        ({"templates/a.yaml": rendered("ConfigMap", "data: {sidecar: 'q.io/a/hidden:1'}")}, ""),
    ],
)
def test_an_image_that_hides_is_found(files: Files, values: str, tmp_path: Path) -> None:
    assert {item.image for item in find(tmp_path, files, values).images} == {"q.io/a/hidden:1"}


@pytest.mark.parametrize(
    "setting",
    [
        "env: [{name: RELATED_IMAGE_X, value: 'q.io/a/hidden:1'}]",
        "args: [--reloader=q.io/a/hidden:1]",
        "command: [run, --reloader, 'q.io/a/hidden:1']",
    ],
)
def test_an_image_among_the_settings_of_an_operator_is_found(setting: str, tmp_path: Path) -> None:
    found = find(tmp_path, {"templates/a.yaml": rendered("Pod", PLAIN % setting)})
    assert [item.image for item in found.images] == ["q.io/a/hidden:1", "q.io/a/plain:1"]


def test_a_chart_is_rendered_for_the_cluster_that_the_spec_tells(tmp_path: Path) -> None:
    template = (
        '{{ if and (.Capabilities.APIVersions.Has "g.io/v1/Kind") '
        '(semverCompare ">=1.31-0" .Capabilities.KubeVersion.Version) }}\n'
        f"{rendered('Pod', POD)}{{{{ end }}}}"
    )
    found = find(
        tmp_path,
        {"templates/a.yaml": template},
        kube_version="1.31.0",
        api_versions=("g.io/v1/Kind",),
    )
    assert [item.image for item in found.images] == ["q.io/a/hidden:1"]
    [note] = found.notes
    assert "some/templates/a.yaml:1 (.Capabilities)" in note


def test_what_starts_later_is_declared_and_what_is_no_image_left_out(tmp_path: Path) -> None:
    data = "data: {address: 'gateway.example.com/path:80', run: 'pull q.io/a/script:1 now'}"
    files = {"templates/a.yaml": rendered("ConfigMap", data)}
    found = find(
        tmp_path,
        files,
        starts_later=("q.io/a/later:1",),
        not_images=("gateway.example.com/path:80",),
    )
    assert [(i.image, i.how) for i in found.images] == [("q.io/a/later:1", "declared")]
    [note] = found.notes
    assert "ConfigMap/x, data.run mentions q.io/a/script:1" in note


@pytest.mark.parametrize(
    ("files", "rules", "told"),
    [
        ({"templates/a.yaml": "{{ fail `no way` }}"}, {}, "no way"),
        ({"templates/a.yaml": "kind: {{ .Values.x.y }}"}, {}, "does not render"),
        ({"Chart.yaml": ABOUT + "kubeVersion: '>=1.99.0'\n"}, {}, "does not render"),
        (
            {"templates/a.yaml": rendered("Thing", "spec: {a: b}")},
            {"image_fields": (ImageField.parse("Thing:spec.typo"),)},
            "no object has Thing:spec.typo",
        ),
    ],
)
def test_a_chart_that_cannot_be_searched_is_refused(
    files: Files, rules: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckError, match=told):
        find(tmp_path, files, **rules)


@pytest.fixture
def mirrored(registry: Registry, tmp_path: Path) -> Callable[[str], None]:
    """Let a local registry stand for the public ones; gives what puts a stand-in image there."""
    hosts = ("quay.io", "registry.k8s.io", "q.io")
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
    told = json.loads(closure(directory, key, "--json").stdout)
    assert told["ok"] is True
    assert [chart["name"] for chart in told["charts"]] == ["inference", "minio", "fake-nodes"]

    (root / "containers" / "kwok-kwok__v0.6.1.tar").unlink()
    done = closure(root, key, "--release", directory)
    assert done.returncode == 8
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
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    [chart] = lock.charts
    spelled = replace(chart.images[0], reference="docker://q.io/a/hidden:1")
    lock = replace(lock, charts=(replace(chart, images=(spelled,)),))
    error = refused(spec_path, tmp_path / "out", ContentError, lock)
    assert "q.io/a/hidden:1 is not locked" in str(error)


def test_an_archive_is_what_the_spec_says_it_is(
    small: Path, spec_path: Path, tmp_path: Path
) -> None:
    text = spec_path.read_text().replace("values: some.yaml", f"sha256: {'a' * 64}")
    spec_path.write_text(text)
    error = refused(spec_path, tmp_path / "out", ContentError)
    assert "sha256 in the spec" in str(error.hint)


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
