"""The ``helm`` program as it works on charts, without a cluster."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ToolError, printable
from bundler.process import Run, run_alone

_OLDEST = (3, 12)
_VERSION = re.compile(r"v(\d+)\.(\d+)\.")
# Without a cluster helm assumes a version of Kubernetes: its own youngest, which for the oldest
# helm that is supported is older than what the chart asks for.
_KUBERNETES = "1.29.0"
_TIMEOUT_SECONDS = 120.0
_MAX_RENDERED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """The ``helm`` program.

    Attributes:
        run: How programs are started. It asks no cluster, so it gets no login to any.
    """

    run: Run = run_alone

    def require(self) -> None:
        """Check that the program is there and new enough.

        Raises:
            ToolError: It is missing or too old.
        """
        text = self.run(["helm", "version", "--template={{.Version}}"], timeout=_TIMEOUT_SECONDS)
        found = _VERSION.match(text)
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise ToolError(f"helm: expected 3.12 or newer, got {printable(text.strip()[:80])!r}")

    def template(
        self,
        chart: Path,
        release: str,
        namespace: str,
        values_files: Sequence[Path],
        *,
        kube_version: str | None = None,
        api_versions: Sequence[str] = (),
        upgrade: bool = False,
    ) -> str:
        """Render a chart without asking a cluster, as ``charts.rendering.ChartRenderer`` says."""
        argv = ["helm", "template", release, str(chart.absolute()), f"--namespace={namespace}"]
        argv += [f"--kube-version={kube_version or _KUBERNETES}", "--include-crds"]
        argv += [f"--api-versions={text}" for text in api_versions]
        argv += ["--is-upgrade"] * upgrade
        argv += [f"--values={path.absolute()}" for path in values_files]
        return self.run(argv, timeout=_TIMEOUT_SECONDS, limit=_MAX_RENDERED_BYTES)
