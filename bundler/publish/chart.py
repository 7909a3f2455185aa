"""The release's chart, unpacked and rendered as it would be installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.files import read_limited
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.manifest import Chart, Manifest
from bundler.publish.cluster import Cluster
from bundler.publish.layout import Layout
from bundler.publish.plan import Kind, State, Step
from bundler.publish.values import Values, encode_values, make_values
from bundler.release import TrustedRelease
from bundler.target import KubernetesTarget, Target
from bundler.tools.helm_release import Installed
from bundler.tools.kubectl import Object
from bundler.yamltext import read_yaml

_MAX_VALUES_BYTES = 4 << 20
_MAX_CA_BYTES = 1 << 20
_DEPLOYED, _PENDING = "deployed", "pending-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedChart:
    """A chart ready to be installed.

    Attributes:
        chart: As the manifest has it.
        path: Where it was unpacked.
        values: What it would be installed with.
        values_file: The same as the bytes of a file.
        values_path: Where that lies, beside the chart, where nobody else writes.
        objects: What it comes to.
    """

    chart: Chart
    path: Path
    values: Values
    values_file: bytes
    values_path: Path
    objects: Sequence[Object]

    @property
    def deployments(self) -> tuple[str, ...]:
        """The names of the Deployments that it makes."""
        found = (item["metadata"] for item in self.objects if item.get("kind") == "Deployment")
        return tuple(str(metadata["name"]) for metadata in found if isinstance(metadata, dict))


def render_chart(
    release: TrustedRelease,
    bundle: BundleFiles,
    target: Target,
    layout: Layout,
    *,
    cluster: Cluster,
    directory: Path,
) -> RenderedChart:
    """Unpack the chart of a release below ``directory`` and render it with generated values.

    Raises:
        MalformedError: The release has no such chart, or the target does not fit the release.
        ContentError: The chart differs from what was signed.
        ToolError: The chart refuses the values.
    """
    manifest = release.manifest
    chart = manifest.own_chart
    path = _unpack(bundle, manifest, chart, directory)
    values_yaml = read_limited(path / "values.yaml", limit=_MAX_VALUES_BYTES)
    values = make_values(
        manifest,
        Digest.of(release.manifest_bytes),
        target,
        layout,
        chart_values=_mapping(values_yaml, f"{chart.path}/values.yaml"),
        ca_pem=_ca_pem(target),
    )
    values_file = encode_values(values, manifest, target)
    values_path = directory / "values.yaml"
    values_path.write_bytes(values_file)
    return RenderedChart(
        chart=chart,
        path=path,
        values=values,
        values_file=values_file,
        values_path=values_path,
        objects=cluster.render(path, values_path),
    )


def plan_chart(
    installed: Installed | None, wanted: RenderedChart, target: KubernetesTarget
) -> Step:
    """Say how the Helm release stands in the cluster."""

    def step(state: State, detail: str = "") -> Step:
        return Step(kind=Kind.CHART, name=target.release, state=state, detail=detail)

    chart = f"{wanted.chart.name}-{wanted.chart.version}"
    if installed is None:
        return step(State.TO_DO, f"to install {chart}")
    if is_pending(installed):
        return step(State.CONFLICT, _pending(installed, target))
    changes = []
    if installed.status != _DEPLOYED:
        changes.append(f"revision {installed.revision} is {installed.status}")
    if installed.chart != chart:
        changes.append(f"chart {installed.chart} becomes {chart}")
    if installed.values != wanted.values:
        changes.append("values change")
    return step(State.TO_DO, "; ".join(changes)) if changes else step(State.PRESENT)


def is_pending(installed: Installed) -> bool:
    """Tell whether a helm works on the release, or was killed while it did."""
    return installed.status.startswith(_PENDING)


def _pending(installed: Installed, target: KubernetesTarget) -> str:
    where = f"{target.release} --namespace {target.namespace}"
    if installed.last_good is None:
        command = f"helm uninstall {where}"
    else:
        command = (
            f"helm rollback {target.release} {installed.last_good} --namespace {target.namespace}"
        )
    return (
        f"revision {installed.revision} is {installed.status}: another helm works on it, or was "
        f"killed; when none does, clear it: {command}"
    )


def _unpack(bundle: BundleFiles, manifest: Manifest, chart: Chart, directory: Path) -> Path:
    inside = f"{chart.path}/"
    files = [file for file in manifest.bundle.files if file.path.startswith(inside)]
    for file in files:
        destination = directory / chart.name / file.path.removeprefix(inside)
        destination.parent.mkdir(parents=True, exist_ok=True)
        bundle.extract(file, destination)
    return directory / chart.name


def _mapping(content: bytes, name: str) -> dict[str, object]:
    value = read_yaml(content, name=name).value
    if not isinstance(value, dict):
        raise MalformedError(f"{name}: expected a mapping")
    return value


def _ca_pem(target: Target) -> str:
    if target.s3.ca is None:
        return ""
    content = read_limited(target.s3.ca.resolve(), limit=_MAX_CA_BYTES)
    if b"-----BEGIN CERTIFICATE-----" not in content or b"PRIVATE KEY" in content:
        raise MalformedError(f"{target.s3.ca}: expected certificates in PEM, and no private key")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise MalformedError(f"{target.s3.ca}: expected text in UTF-8") from None
