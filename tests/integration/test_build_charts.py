"""Which charts a build takes: those that render, and name images of the release only."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import CheckError, MalformedError
from tests.integration.building import refused, spec_path, tools
from tests.integration.release_inputs import edit_spec

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


@pytest.mark.parametrize(
    ("template", "named"),
    [
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


def test_a_chart_that_does_not_render_is_refused(spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / "templates" / "bad.yaml").write_text("{{ fail `no way` }}")
    assert "no way" in str(refused(spec_path, tmp_path / "out", CheckError))


def test_an_image_that_the_chart_wants_has_to_be_in_the_release(
    spec_path: Path, tmp_path: Path
) -> None:
    edit_spec(spec_path, "name: public-docs", "name: other-docs")
    error = refused(spec_path, tmp_path / "out", MalformedError)
    assert "docs.image.name: the release has no image 'public-docs'" in str(error)


@pytest.mark.parametrize("name", [".env", "templates/.hidden.yaml"])
def test_a_hidden_file_in_a_chart_is_refused(name: str, spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / name).write_text("x")
    assert name in str(refused(spec_path, tmp_path / "out", MalformedError))


def test_a_link_in_a_chart_is_refused(spec_path: Path, tmp_path: Path) -> None:
    (spec_path.parent / "chart" / "passwd.txt").symlink_to("/etc/passwd")
    assert "symbolic link" in str(refused(spec_path, tmp_path / "out", MalformedError))
