"""Kubernetes' own programs, compiled into one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.rehearsal.go_build import GoProgram, build
from tests.rehearsal.progress import Progress

_KUBERNETES = GoProgram(
    name="kubernetes",
    title="Kubernetes",
    module="k8s.io/kubernetes",
    file="kube",
    takes="about five minutes on two cores",
    arguments=("-tags", "providerless"),
)


def build_kubernetes(progress: Progress) -> Path:
    """Give the path of ``kube``, the one program that is all of Kubernetes; compile it if need be.

    Raises:
        RehearsalError: There is no Go toolchain to be had, or the compiler failed.
    """
    return build(dataclasses.replace(_KUBERNETES, variables=_version_variables()), progress)


def _version_variables() -> dict[str, str]:
    """Give it its version: charts ask for it, and the default is v0.0.0."""
    version = _KUBERNETES.version
    major, minor, _ = version.split(".", 2)
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return {f"k8s.io/component-base/version.{name}": value for name, value in values.items()}
