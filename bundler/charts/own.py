"""The release's own chart, with everything switched on: every image that it can name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bundler.archive.files import atomic_write_bytes
from bundler.charts.rendering import ChartRenderer, problem, varying
from bundler.errors import CheckError, ToolFailedError
from bundler.image_discovery import discover
from bundler.image_reference import NamedImage
from bundler.manifest import MODEL_TYPES
from bundler.yamltext import read_objects

# No host has this name. Source: RFC 2606, section 2.
REGISTRY = "registry.invalid"
# Where the values name an image of the release: a build presets its name and tag there, and publish
# its digest.
IMAGE_VALUES = (("image",), ("downloader", "image"), ("docs", "image"))
# For whoever reads what ``own_images`` finds.
STAND_INS = (
    f"rendered with everything switched on; {REGISTRY} and the models m0, m1, ... stand for the "
    "registry and the models that a target names"
)


def own_images(
    files: Mapping[str, bytes], *, charts: ChartRenderer, scratch: Path, name: str
) -> list[NamedImage]:
    """Render a chart of ours with everything switched on and give every image that it names.

    Each stands at ``REGISTRY`` if the chart takes it from where it should. Settings that
    ``discover`` takes for images count too.

    Args:
        files: The chart as it is in a bundle.
        charts: What renders it.
        scratch: A directory to write the chart to.
        name: What to call the chart.

    Raises:
        CheckError: It does not render, or would come to something else in a cluster.
    """
    for place, found in varying(files):
        raise CheckError(
            f"chart {name}: {place}: {found!r} would render differently in a "
            "cluster, so its images could not be known now",
            hint="take what differs from a value",
        )
    chart_dir = scratch / name
    for path, content in files.items():
        (chart_dir / path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(chart_dir / path, content)
    values = scratch / f"{name}.values.json"
    atomic_write_bytes(values, json.dumps(_everything_on()).encode())
    try:
        text = charts.template(chart_dir, "inference", "models", [values])
    except ToolFailedError as error:
        raise CheckError(f"chart {name}: does not render: {problem(error)}") from error
    return discover(read_objects(text, name=f"chart {name}, rendered"))


def _everything_on() -> dict[str, object]:
    """Give values with every switch of the chart on, so that no image hides behind one."""
    models = {
        f"m{number}": {
            "model": "s3://bucket/model",
            "checkpoint": "checkpoint",
            "modelName": "Model",
            "modelType": kind,
            "gpus": 1,
            "ingressHost": f"m{number}.invalid",
        }
        for number, kind in enumerate(MODEL_TYPES)
    }
    return {
        "image": {"registry": REGISTRY},
        "docs": {"enabled": True, "ingressHost": "docs.invalid"},
        "ingress": {"enabled": True},
        "authentication": {"secretName": "api-key"},
        "s3": {"secretName": "credentials"},
        "caBundle": {"pem": "-----BEGIN CERTIFICATE-----"},
        "networkPolicy": {"enabled": True},
        "release": {
            "name": "release",
            "manifest": "s3://bucket/MANIFEST.json",
            "manifestSha256": "0" * 64,
        },
        "models": models,
    }
