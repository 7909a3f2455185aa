"""What publishing asks of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bundler.tools.helm_release import Installed
from bundler.tools.kubectl import Object


class Cluster(Protocol):
    """One namespace of a cluster, and one Helm release in it.

    All methods raise DeniedError where the cluster does not let us, and WorldError where it cannot
    be reached or refuses.
    """

    def get(self, kind: str, name: str) -> Object | None:
        """Read one object; None where there is none, or no such namespace."""

    def find(self, kinds: str, selector: str) -> Sequence[Object]:
        """Read the objects of some kinds, joined by commas, that a label selector finds."""

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> None:
        """Make or change one object as our own field manager, which no annotation repeats.

        Args:
            item: The object.
            force: Take over fields that another manager set.
            dry_run: Change nothing: only ask whether the cluster would take it.

        Raises:
            ConflictError: Another manager set one of the fields to something else.
        """

    def last_log_lines(self, pod: str, container: str, *, previous: bool = False) -> Sequence[str]:
        """Give the last few lines that a container wrote; empty where there are none."""

    def installed(self) -> Installed | None:
        """Say what Helm's newest revision is; None where nothing was installed."""

    def render(self, chart: Path, values: Path) -> Sequence[Object]:
        """Give the objects of a chart with a values file, hooks and tests included.

        Raises:
            ToolError: The chart refuses the values; the message says which and why.
        """

    def upgrade(self, chart: Path, values: Path) -> None:
        """Install a chart, or bring the release to it; does not wait for pods."""

    def manifest(self) -> Sequence[Object]:
        """Give the objects that Helm installed last, hooks and tests included."""
