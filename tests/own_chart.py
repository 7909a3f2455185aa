"""The chart that every release has, as small as can be."""

from __future__ import annotations

from bundler.digest import Digest, tree_digest
from bundler.manifest import BundleFile, Chart

CONTENT = b"apiVersion: v2\nname: inference\nversion: 1.0.0\n"
FILE = BundleFile(
    path="charts/inference/Chart.yaml", offset=512, size=len(CONTENT), digest=Digest.of(CONTENT)
)
CHART = Chart(
    name="inference",
    version="1.0.0",
    path="charts/inference",
    digest=tree_digest([("Chart.yaml", FILE.size, FILE.digest)]),
)
