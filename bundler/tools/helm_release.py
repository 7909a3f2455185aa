"""The ``helm`` program as it works on one release in a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ToolError, ToolFailedError, printable
from bundler.process import Run, run
from bundler.tools.kubernetes_errors import explained

_NOT_FOUND = "not found"
# Of a helm that hangs; the chart has no hooks, and we wait for pods ourselves.
_TIMEOUT_SECONDS = 600.0
# Of a revision that was deployed once.
GOOD = ("deployed", "superseded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The newest revision of a Helm release.

    Attributes:
        status: Helm's word: ``deployed``, ``failed``, ``pending-upgrade`` and so on.
        chart: Name and version of its chart, ``NAME-VERSION``.
        values: What the user gave, not what the chart adds.
        last_good: Newest revision that was deployed once; None where there was none.
    """

    revision: int
    status: str
    chart: str
    values: Mapping[str, object]
    last_good: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmRelease:
    """One Helm release of one namespace.

    Attributes:
        name, namespace: Which one.
        kubeconfig, context: None for what helm would use by itself.
        run: How programs are started.
    """

    name: str
    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None
    run: Run = run

    def installed(self) -> Installed | None:
        """Say what is installed; None where there is nothing."""
        history = self._history()
        if not history:
            return None
        newest = history[-1]
        return Installed(
            revision=_revision(newest),
            status=str(newest.get("status")),
            chart=str(newest.get("chart")),
            values=self._values(),
            last_good=max((_revision(r) for r in history if r.get("status") in GOOD), default=None),
        )

    def revisions(self) -> Iterator[Installed]:
        """Give what Helm still keeps of each revision, the newest first; values are read lazily."""
        history = self._history()
        good = max((_revision(r) for r in history if r.get("status") in GOOD), default=None)
        for entry in reversed(history):
            yield Installed(
                revision=_revision(entry),
                status=str(entry.get("status")),
                chart=str(entry.get("chart")),
                values=self._values(_revision(entry)),
                last_good=good,
            )

    def upgrade(self, chart: Path, values: Path) -> None:
        """Install a chart or bring the release to it; does not wait for pods.

        Without ``--atomic``: what failed stays as it is, so that it can be looked at.
        """
        argv = ["upgrade", "--install", self.name, str(chart), f"--values={values}"]
        try:
            self._run([*argv, "--reset-values", "--output=json"])
        except ToolFailedError as error:
            raise explained(error) from error

    def manifest(self) -> str:
        """Give the newest revision's objects, hooks and tests included, as YAML documents."""
        try:
            return "\n---\n".join(
                self._run(["get", what, self.name]) for what in ("manifest", "hooks")
            )
        except ToolFailedError as error:
            raise explained(error) from error

    def _history(self) -> list[dict[str, object]]:
        """Read the revisions, the newest last; none where there is no such release."""
        try:
            return _list(self._run(["history", self.name, "--max=20", "--output=json"]))
        except ToolFailedError as error:
            if _NOT_FOUND in error.stderr:
                return []
            raise explained(error) from error

    def _values(self, revision: int | None = None) -> Mapping[str, object]:
        which = [] if revision is None else [f"--revision={revision}"]
        try:
            text = self._run(["get", "values", self.name, *which, "--output=json"])
        except ToolFailedError as error:
            raise explained(error) from error
        value = _parsed(text)
        return value if isinstance(value, dict) else {}

    def _run(self, argv: Sequence[str]) -> str:
        flags = [f"--namespace={self.namespace}"]
        if self.kubeconfig is not None:
            flags.append(f"--kubeconfig={self.kubeconfig}")
        if self.context is not None:
            flags.append(f"--kube-context={self.context}")
        return self.run(["helm", *argv, *flags], timeout=_TIMEOUT_SECONDS)


def _list(text: str) -> list[dict[str, object]]:
    value = _parsed(text)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ToolError(f"helm: expected JSON, got {printable(text[:80])!r}") from None


def _revision(entry: Mapping[str, object]) -> int:
    revision = entry.get("revision")
    return revision if isinstance(revision, int) else 0
