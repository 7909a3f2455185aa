"""Renders the inference chart with the real Helm, and finds things in what it renders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "inference"
GUIDE = Path(__file__).with_name("chart_values") / "guide.yaml"
EVERYTHING = GUIDE.with_name("everything.yaml")

Object = dict[str, Any]
Values = Path | Object

# As `bundle build` presets the tags in a bundle's chart.
PRESET: Object = {
    "image": {"tag": "a1"},
    "downloader": {"image": {"tag": "d1"}},
    "docs": {"image": {"tag": "p1"}},
}
ONE_MODEL: Object = {
    "image": {"registry": "registry.example.com"},
    "models": {"m": {"model": "s3://b/m", "modelName": "M", "modelType": "agent", "gpus": 1}},
}


def run_helm(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm; where it is missing, skip, or fail if tools are required."""
    beside = Path(sys.executable).with_name("helm")
    program = beside if beside.exists() else shutil.which("helm")
    if program is None:
        (pytest.fail if "BUNDLE_REQUIRE_TOOLS" in os.environ else pytest.skip)("no helm")
    return subprocess.run([program, *args], capture_output=True, text=True, check=False)


def helm(*args: str | Path) -> str:
    """Run Helm, which must succeed, and give its output."""
    done = run_helm(*args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def template(*values: Values, chart: Path = CHART, release: str = "inference") -> str:
    """Render the chart with presets, then values in this order, each a file or a dict."""
    with tempfile.TemporaryDirectory() as scratch:
        files: list[str | Path] = []
        for number, layer in enumerate((PRESET, *values)):
            file = layer if isinstance(layer, Path) else Path(scratch, f"{number}.yaml")
            if isinstance(layer, dict):
                file.write_text(json.dumps(layer))
            files += ["--values", file]
        return helm("template", release, chart, "--namespace", "models", *files)


def render(*values: Values, chart: Path = CHART, release: str = "inference") -> list[Object]:
    return list(yaml.safe_load_all(template(*values, chart=chart, release=release)))


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def pod(objects: list[Object], name: str) -> Object:
    spec: Object = named(objects, "Deployment", name)["spec"]["template"]["spec"]
    return spec


def server(objects: list[Object], name: str = "inference-m") -> Object:
    container: Object = pod(objects, name)["containers"][0]
    return container


def downloader(objects: list[Object], name: str = "inference-m") -> Object:
    container: Object = pod(objects, name)["initContainers"][0]
    return container


def environment(container: Object) -> Object:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def secret_key(secret: str, key: str) -> Object:
    return {"secretKeyRef": {"name": secret, "key": key}}
