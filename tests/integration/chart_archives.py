"""Small charts, packaged by the real Helm, and what is found in them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundler.charts.third_party import CarriedChart, FoundImages, find_images
from bundler.manifest_charts import ChartRules
from bundler.tools.helm import Helm

Files = Mapping[str, str]

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
