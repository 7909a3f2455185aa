"""Which images are found in charts of others as Helm renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundler.charts.third_party import CarriedChart, find_images
from bundler.errors import CheckError
from bundler.image_discovery import discover
from bundler.image_reference import ImageField
from bundler.manifest_charts import ChartRules, NotImage
from bundler.tools import helm
from bundler.tools.helm import Helm
from bundler.yamltext import read_objects
from tests.go_charts import CHARTS, chart_archive
from tests.integration.building import tools
from tests.integration.chart import EVERYTHING, GUIDE, ONE_MODEL, Values, template
from tests.integration.chart_archives import ABOUT, POD, Files, find, rendered
from tests.rehearsal.fixtures import need as need_rehearsal

__all__ = ["tools"]

# Values that look like images to a careless eye.
TRAPS: Values = {
    "s3": {"endpoint": "https://10.0.0.1:9000"},
    "ingress": {"annotations": {"a.example.com/b": "arn:aws:acm:eu-central-1:1:certificate/a:b"}},
    "models": {
        "big": {
            "modelName": "qwen2.5/big:instruct",
            "args": ["--limit-mm-per-prompt", "image=2", "--media=http://10.0.0.0/8:1"],
            "env": [{"name": "NO_PROXY", "value": "10.0.0.0/8,.svc.cluster.local"}],
        }
    },
}
MINIO = "quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z"
MC = "quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z"
KWOK = "registry.k8s.io/kwok/kwok:v0.6.1"

GPU_OPERANDS = [
    (f"nvcr.io/nvidia/{image}", f"ClusterPolicy/cluster-policy spec.{path}.repository")
    for image, path in (
        ("cloud-native/dcgm:2.4.5-1-ubuntu20.04", "dcgm"),
        ("cloud-native/gpu-operator-validator:v1.11.1", "nodeStatusExporter"),
        ("cloud-native/gpu-operator-validator:v1.11.1", "validator"),
        ("cloud-native/k8s-driver-manager:v0.4.1", "driver.manager"),
        ("cloud-native/k8s-mig-manager:v0.4.2-ubuntu20.04", "migManager"),
        ("cuda:11.6.0-base-ubi8", "operator.initContainer"),
        ("driver:515.48.07", "driver"),
        ("gpu-feature-discovery:v0.6.1-ubi8", "gfd"),
        ("k8s-device-plugin:v0.12.2-ubi8", "devicePlugin"),
        ("k8s/container-toolkit:v1.10.0-ubuntu20.04", "toolkit"),
        ("k8s/dcgm-exporter:2.4.5-2.6.7-ubuntu20.04", "dcgmExporter"),
    )
]
NFD = "k8s.gcr.io/nfd/node-feature-discovery:v0.10.1"
CONFIGURATION = "OperatorConfiguration/postgres-operator configuration"
DEFAULTS = (
    "CustomResourceDefinition/operatorconfigurations.acid.zalan.do spec.versions[v1].schema"
    ".openAPIV3Schema.properties.configuration.properties"
)

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
    "gpu-operator": (
        "",
        [
            (NFD, "DaemonSet/gpu-operator-node-feature-discovery-worker worker"),
            (NFD, "Deployment/gpu-operator-node-feature-discovery-master master"),
            *GPU_OPERANDS,
            ("nvcr.io/nvidia/gpu-operator:v1.11.1", "Deployment/gpu-operator gpu-operator"),
        ],
    ),
    "postgres-operator": (
        "",
        [
            *(
                (image, place)
                for image, path, field in (
                    (
                        "ghcr.io/zalando/postgres-operator/logical-backup:v1.13.0",
                        "logical_backup",
                        "logical_backup_docker_image",
                    ),
                    (
                        "registry.opensource.zalan.do/acid/pgbouncer:master-32",
                        "connection_pooler",
                        "connection_pooler_image",
                    ),
                )
                for place in (
                    f"{DEFAULTS}.{path}.properties.{field}.default",
                    f"{CONFIGURATION}.{path}.{field}",
                )
            ),
            ("ghcr.io/zalando/spilo-17:4.0-p2", f"{DEFAULTS}.docker_image.default"),
            ("ghcr.io/zalando/spilo-17:4.0-p2", f"{CONFIGURATION}.docker_image"),
            (
                "ghcr.io/zalando/postgres-operator:v1.14.0",
                "Deployment/postgres-operator postgres-operator",
            ),
        ],
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
    assert [(i.image, f"{i.object} {i.container}") for i in found.images] == sorted(expected)


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


PLAIN = "spec: {containers: [{name: main, image: 'q.io/a/plain:1', %s}]}"
DEFINITION = """\
kind: CustomResourceDefinition
metadata: {name: things.example.com, annotations: {bundle/image-fields: spec.tool}}
spec: {names: {kind: Thing}}
"""


def only_if(test: str) -> str:
    return f"{{{{ if {test} }}}}\n{rendered('Pod', POD)}{{{{ end }}}}"


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
        ({"templates/a.yaml": only_if(".Values.enabled")}, "enabled: true"),
        ({"templates/a.yaml": only_if(".Release.IsUpgrade")}, ""),
        ({"templates/a.yaml": only_if(".Release.IsInstall")}, ""),
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
        *(
            ({"templates/a.yaml": only_if(test)}, "")
            for test in (
                'ne .Release.Namespace "default"',
                'ne .Release.Name "some"',
                'and .Release.IsUpgrade (ne .Release.Namespace "default")',
                'eq .Release.Namespace "default"',
            )
        ),
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
        not_images=(NotImage("gateway.example.com/path:80", "an address"),),
    )
    assert [(i.image, i.how) for i in found.images] == [("q.io/a/later:1", "declared")]
    assert [(p.container, why) for p, why in found.not_images] == [("data.address", "an address")]
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


@pytest.mark.parametrize(
    "test", ['eq .Release.Namespace "x"', '(ne "x" .Release.Name)', 'index $ "Capabilities"']
)
def test_what_only_some_release_would_show_is_told(test: str, tmp_path: Path) -> None:
    found = find(tmp_path, {"templates/a.yaml": only_if(test)})
    assert len(found.notes) == 1
    assert "some/templates/a.yaml:1" in found.notes[0]


def test_what_is_found_under_another_name_too_is_told_once(tmp_path: Path) -> None:
    pod = rendered("Pod", POD).replace("name: x", "name: '{{ .Release.Name }}-x'")
    found = find(tmp_path, {"templates/a.yaml": pod + "# {{ randAlpha 5 }}\n"})
    assert [(i.image, i.object) for i in found.images] == [("q.io/a/hidden:1", "Pod/some-x")]


@pytest.mark.parametrize("image", ["Foo/BAR:1", "' q.io/a:1'", "'${IMAGE}'", "'q.io/a:'"])
def test_a_container_that_no_runtime_could_start_is_refused(image: str, tmp_path: Path) -> None:
    pod = rendered("Pod", f"spec: {{containers: [{{name: main, image: {image}}}]}}")
    text = repr(image.strip("'"))
    with pytest.raises(CheckError, match="Pod/x, main: expected a reference") as caught:
        find(tmp_path, {"templates/a.yaml": pod})
    assert text in str(caught.value)
    assert "startsLater" in str(caught.value.hint)


def test_a_transport_in_front_is_nothing_that_a_container_runs(tmp_path: Path) -> None:
    pod = rendered("Pod", POD.replace("q.io", "docker://q.io"))
    with pytest.raises(CheckError, match="docker://q"):
        find(tmp_path, {"templates/a.yaml": pod})


def test_a_pattern_where_a_container_stands_can_be_no_image(tmp_path: Path) -> None:
    policy = rendered("Policy", "pattern: {containers: [{name: '*', image: '*:latest'}]}")
    files = {"templates/a.yaml": policy}
    found = find(tmp_path, files, not_images=(NotImage("*:latest", "a pattern"),))
    assert found.images == ()
    assert [why for _, why in found.not_images] == ["a pattern"]


@pytest.mark.parametrize(
    "body",
    [
        POD,
        POD.replace("containers", "initContainers"),
        "spec: {volumes: [{name: main, image: {reference: 'q.io/a/hidden:1'}}]}",
    ],
)
@pytest.mark.parametrize("switch", ["{{ if true }}", '{{ if ne .Release.Namespace "default" }}'])
def test_what_a_pod_runs_is_an_image_whatever_the_spec_says(
    body: str, switch: str, tmp_path: Path
) -> None:
    files = {
        "templates/a.yaml": rendered("ConfigMap", "data: {a: 'q.io/a/hidden:1'}"),
        "templates/b.yaml": f"{switch}\n{rendered('Pod', body)}{{{{ end }}}}",
    }
    with pytest.raises(CheckError, match=r"notImages: a pod runs Pod/x, .*main: q\.io/a/hidden:1"):
        find(tmp_path, files, not_images=(NotImage("q.io/a/hidden:1", "trust me"),))


def test_a_text_that_nothing_names_cannot_be_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"notImages: nothing names q\.io/a/typo:1"):
        find(
            tmp_path,
            {"templates/a.yaml": rendered("Pod", POD)},
            not_images=(NotImage("q.io/a/typo:1", "none"),),
        )


def test_a_container_without_an_image_is_told(tmp_path: Path) -> None:
    body = "spec: {containers: [{name: main, image: 1.25}, {name: patched}]}"
    found = find(tmp_path, {"templates/a.yaml": rendered("Prometheus", body)})
    assert found.images == ()
    told = [note for note in found.notes if "has no image, or one that is no text" in note]
    assert [note.split(" has no")[0] for note in told] == [
        "chart some: Prometheus/x, main",
        "chart some: Prometheus/x, patched",
    ]


def test_a_chart_that_renders_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helm, "_MAX_RENDERED_BYTES", 1_000_000)
    endless = "{{ range until 1000 }}# {{ repeat 10000 `x` }}\n{{ end }}"
    with pytest.raises(CheckError, match="does not render: wrote more than 1000000 bytes"):
        find(tmp_path, {"templates/a.yaml": endless})


@pytest.mark.parametrize("values", [(ONE_MODEL,), (GUIDE,), (EVERYTHING,), (EVERYTHING, TRAPS)])
def test_no_setting_of_our_own_chart_is_taken_for_an_image(values: tuple[Values, ...]) -> None:
    found = discover(read_objects(template(*values), name="inference"))
    assert found
    assert [item for item in found if not item.in_pod] == []
