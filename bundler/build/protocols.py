"""What a build asks of the programs that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bundler.source import Fetched, Resolved, Source


class ImageSource(Protocol):
    """Where images come from.

    Every method raises NotFoundError where there is no such image, DeniedError where the registry
    refuses us, another WorldError where it cannot be reached or fails, and MalformedError for a
    manifest that we do not read.
    """

    def require(self) -> None:
        """Raise ToolError where a program is missing or too old."""

    def resolve(self, source: Source, *, plain_http: bool = False) -> Resolved:
        """Ask what a source names now, without copying it."""

    def fetch(self, source: Source, layout_dir: Path, *, plain_http: bool = False) -> Fetched:
        """Copy an image, all its platforms, into a new OCI layout, converted to OCI if need be."""


class ChartRenderer(Protocol):
    """What renders a Helm chart."""

    def require(self) -> None:
        """Raise ToolError where a program is missing or too old."""

    def template(
        self, chart_dir: Path, release: str, namespace: str, values_files: Sequence[Path]
    ) -> str:
        """Give all objects of a chart, hooks included, as YAML; ToolFailedError where it fails."""
