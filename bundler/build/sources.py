"""Everything on this machine that goes into a release: chart, scripts, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import read_limited
from bundler.build.chart import chart_digest, chart_name, read_chart
from bundler.build.checkpoint import CheckpointSource, read_checkpoint
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Emit
from bundler.lockfile import Lock, LockedFile
from bundler.spec import Spec

_MAX_SCRIPT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What was found on this machine.

    Attributes:
        chart: Files of the chart as it lies in the source tree, by path.
        chart_name: What it calls itself.
        scripts: Content of each script, by its path in the spec.
        checkpoints: In the order of the spec.
    """

    chart: Mapping[str, bytes]
    chart_name: str
    scripts: Mapping[str, bytes]
    checkpoints: tuple[CheckpointSource, ...]

    @property
    def locked_scripts(self) -> tuple[LockedFile, ...]:
        """What a lock says of the scripts."""
        return tuple(
            LockedFile(path=path, size=len(content), digest=Digest.of(content))
            for path, content in self.scripts.items()
        )


def read_sources(spec: Spec, base: Path, lock: Lock | None, emit: Emit) -> Sources:
    """Read the small sources, and list the files of the checkpoints.

    Args:
        spec: What goes into the release.
        base: The directory of the spec.
        lock: What chart and scripts must be; None to take what is there.
        emit: Told of what is left out.

    Raises:
        NotFoundError: A source is not there.
        MalformedError: One breaks its rules.
        ContentError: Chart or a script is not what the lock says.
    """
    chart_dir = base / spec.chart.path
    chart = read_chart(chart_dir, emit)
    sources = Sources(
        chart=chart,
        chart_name=chart_name(chart, name=str(chart_dir)),
        scripts={path: read_limited(base / path, limit=_MAX_SCRIPT_BYTES) for path in spec.scripts},
        checkpoints=tuple(read_checkpoint(item, base, emit) for item in spec.checkpoints),
    )
    if lock is not None:
        _require_locked("chart", spec.chart.path, lock.chart.digest, chart_digest(chart))
        locked = {file.path: file.digest for file in lock.scripts}
        for file in sources.locked_scripts:
            _require_locked("script", file.path, locked[file.path], file.digest)
    return sources


def _require_locked(what: str, path: str, expected: Digest, got: Digest) -> None:
    if expected != got:
        raise ContentError(
            f"{what} {path}: expected {expected} as locked, got {got}",
            hint="it changed since; run `bundle lock` if that is meant",
        )
