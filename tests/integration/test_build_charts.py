"""Which charts a build takes: those that render, and name images of the release only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.build import lock_release
from bundler.errors import CheckError, MalformedError
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.building import build, refused, spec_path, tools
from tests.integration.release_inputs import edit_spec, load_spec

__all__ = ["spec_path", "tools"]

CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: sneaky
spec:
  schedule: "0 0 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          containers: [{name: main, image: docker.io/library/busybox:1}]
"""
HOOK = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: hook
  annotations: {helm.sh/hook: post-install}
spec:
  template:
    spec:
      initContainers: [{name: first, image: "{{ .Values.image.registry }}/other:1.0.0"}]
      containers: [{name: main, image: "{{ .Values.image.registry }}/atlas:1.0.0"}]
"""
TEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: probe
  annotations: {helm.sh/hook: test}
spec:
  containers: [{name: main, image: "{{ .Values.image.registry }}/atlas:latest"}]
"""
RESOURCE = """\
apiVersion: example.com/v1
kind: Engine
metadata: {name: engine}
spec: {image: "docker.io/library/busybox:1"}
"""
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {sidecar: "docker.io/library/busybox:1"}
"""
ARGUMENT = """\
apiVersion: v1
kind: Pod
metadata: {name: manager}
spec:
  containers:
    - name: main
      image: "{{ .Values.image.registry }}/atlas:1.0.0"
      args: [--helper-image=busybox:1]
"""


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (RESOURCE, "Engine/engine, spec.image: docker.io/library/busybox:1"),
        (CONFIG, "ConfigMap/config, data.sidecar: docker.io/library/busybox:1"),
        (ARGUMENT, "Pod/manager, spec.containers[main].args[0]: busybox:1"),
        (CRON_JOB, "CronJob/sneaky, main: docker.io/library/busybox:1"),
        (HOOK, "Job/hook, first: registry.invalid/other:1.0.0"),
        (TEST, "Pod/probe, main: registry.invalid/atlas:latest"),
    ],
)
def test_a_chart_may_name_images_of_the_release_only(
    template: str, named: str, spec_path: Path, tmp_path: Path
) -> None:
    (spec_path.parent / "chart" / "templates" / "more.yaml").write_text(template)
    assert named in str(refused(spec_path, tmp_path / "out", CheckError))


@pytest.mark.parametrize(
    "switch",
    [
        "docs.enabled",
        "ingress.enabled",
        "networkPolicy.enabled",
        "authentication.secretName",
        "s3.secretName",
        "caBundle.pem",
        "release.manifestSha256",
    ],
)
def test_no_image_hides_behind_a_switch_of_the_chart(
    switch: str, spec_path: Path, tmp_path: Path
) -> None:
    hidden = f"{{{{ if .Values.{switch} }}}}\n{CRON_JOB}\n{{{{ end }}}}\n"
    (spec_path.parent / "chart" / "templates" / "more.yaml").write_text(hidden)
    assert "CronJob/sneaky" in str(refused(spec_path, tmp_path / "out", CheckError))


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ('{{ if (lookup "v1" "Secret" "" "") }}x: 1{{ end }}', "lookup"),
        ("{{ with .Release }}{{ if .IsUpgrade }}x: 1{{ end }}{{ end }}", "IsUpgrade"),
        ('{{ if index .Release "IsInstall" }}x: 1{{ end }}', "IsInstall"),
        ("{{ if gt .Release.Revision 1 }}x: 1{{ end }}", ".Release.Revision"),
        ('{{ if .Capabilities.APIVersions.Has "x" }}x: 1{{ end }}', ".Capabilities"),
        ('{{ if index . "Capabilities" }}x: 1{{ end }}', '"Capabilities'),
        ('{{ if eq .Release.Namespace "x" }}x: 1{{ end }}', "eq .Release.Namespace"),
        ('{{ if getHostByName "x" }}x: 1{{ end }}', "getHostByName"),
        ("x: {{ randAlphaNum 5 }}", "randAlphaNum"),
        ('{{ $ca := genCA "x" 1 }}', "genCA"),
        ("{{ now | date `2006` }}", "now"),
        ("{{ if (now) }}x: 1{{ end }}", "now"),
    ],
)
def test_a_chart_that_renders_differently_in_a_cluster_is_refused(
    template: str, named: str, spec_path: Path, tmp_path: Path
) -> None:
    text = f'# now: lookup of what is new\n{{{{- /* lookup "\n */ -}}}}\n{template}\n'
    (spec_path.parent / "chart" / "templates" / "more.yaml").write_text(text)
    error = str(refused(spec_path, tmp_path / "out", CheckError))
    assert "templates/more.yaml:4: '" in error
    assert f"{named}' would render differently" in error


def test_words_that_only_look_like_such_functions_are_taken(
    spec_path: Path, tmp_path: Path
) -> None:
    text = '# now: lookup of what is new\n{{- /* lookup "x" now) */ -}}\n'
    (spec_path.parent / "chart" / "templates" / "more.yaml").write_text(text)
    build(spec_path, tmp_path / "out")


def test_a_custom_resource_definition_counts_too(spec_path: Path, tmp_path: Path) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "c"},
        "spec": {"containers": [{"name": "main", "image": "docker.io/spy:1"}]},
    }
    (spec_path.parent / "chart" / "crds").mkdir()
    (spec_path.parent / "chart" / "crds" / "c.yaml").write_text(json.dumps(crd))
    error = str(refused(spec_path, tmp_path / "out", CheckError))
    assert "CustomResourceDefinition/c, main: docker.io/spy:1" in error


def test_a_chart_that_does_not_render_is_refused(spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / "templates" / "bad.yaml").write_text("{{ fail `no way` }}")
    assert "no way" in str(refused(spec_path, tmp_path / "out", CheckError))


def test_an_image_that_the_chart_wants_has_to_be_in_the_release(
    spec_path: Path, tmp_path: Path
) -> None:
    edit_spec(spec_path, "name: public-docs", "name: other-docs")
    error = refused(spec_path, tmp_path / "out", MalformedError)
    assert "docs.image.name: the release has no image 'public-docs'" in str(error)
    with pytest.raises(MalformedError, match="the release has no image 'public-docs'"):
        lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())


@pytest.mark.parametrize("name", [".env", "templates/.hidden.yaml"])
def test_a_hidden_file_in_a_chart_is_refused(name: str, spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / name).write_text("x")
    assert name in str(refused(spec_path, tmp_path / "out", MalformedError))


def test_a_link_in_a_chart_is_refused(spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / "passwd.txt").symlink_to("/etc/passwd")
    assert "symbolic link" in str(refused(spec_path, tmp_path / "out", MalformedError))
