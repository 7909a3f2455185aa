"""Real charts of other projects, as the Go modules have them that carry them; kept in the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests import go_modules


@dataclass(frozen=True, slots=True)
class GoChart:
    """A chart in a Go module.

    Attributes:
        module: With its version.
        sum: What the module's content must be, as go.sum writes it.
        path: Of the chart's directory in it.
    """

    module: str
    sum: str
    path: str

    @property
    def name(self) -> str:
        """What its archive's name begins with, and nobody else's."""
        return f"{self.module.rpartition('/')[2]}-{self.path.replace('/', '-')}"


_KARPENTER = (
    "github.com/aws/karpenter-provider-aws@v1.6.3",
    "h1:+qI/dw3gaEEWTubxwYJUj+QBuh5yUTdBk2GBB+CLxzY=",
)
_KWOK = ("sigs.k8s.io/kwok@v0.7.0", "h1:+eGsNOIPapjsSzeZlOEcwbpyEVa2Vqlcafa0qIjaKV4=")
CHARTS = {
    "gpu-operator": GoChart(
        "github.com/NVIDIA/gpu-operator@v1.11.1",
        "h1:MuM3nFga8dcK0krgxarYaSmpGSnFYOl2zBQRBNvHKD0=",
        "deployments/gpu-operator",
    ),
    "postgres-operator": GoChart(
        "github.com/zalando/postgres-operator@v1.14.0",
        "h1:C8+n26C8v6fPB1SNW+Y8X6oQoEHufzGJXJzYPlix+zw=",
        "charts/postgres-operator",
    ),
    "karpenter": GoChart(*_KARPENTER, "charts/karpenter"),
    "karpenter-crd": GoChart(*_KARPENTER, "charts/karpenter-crd"),
    "kwok": GoChart(*_KWOK, "charts/kwok"),
    "minio": GoChart(
        "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
        "h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA=",
        "helm/minio",
    ),
    "stage-fast": GoChart(*_KWOK, "charts/stage-fast"),
    "versitygw": GoChart(
        "github.com/versity/versitygw@v1.8.0",
        "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
        "chart",
    ),
}


def chart_archive(chart: GoChart) -> Path:
    """Give the archive of a chart; get its module and package it the first time.

    Raises:
        RehearsalError: There is no Go or Helm here, or the module is not to be had.
    """
    cache = go_modules.cache()
    final = cache / f"chart-{chart.name}"
    if not final.is_dir():
        scratch = cache / f".{final.name}.{os.getpid()}"
        scratch.mkdir(parents=True)
        try:
            place = go_modules.fetch(chart.module, chart.sum, scratch) / chart.path
            go_modules.run(["helm", "package", str(place), "-d", str(scratch / "archive")])
            (scratch / "archive").rename(final)
        except OSError:  # another process was quicker
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    [archive] = final.glob("*.tgz")
    return archive
