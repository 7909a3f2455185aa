"""The command lines by which each tool brings a workload to a registry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.images import Prepared
from tests.rehearsal import go_build, programs
from tests.rehearsal.go_programs import CRANE, REGCTL
from tests.rehearsal.registry import Registry

Commands = Callable[[Prepared, Registry, Path], list[list[str]]]
Sources = Callable[[Prepared], list[Path]]


@dataclass(frozen=True, slots=True)
class Tool:
    """One way to push.

    Attributes:
        title: For the report.
        commands: Gives what is run, in order; the last argument is a directory for its temporary
            files.
        sources: Gives the files that it reads.
    """

    title: str
    commands: Commands
    sources: Sources


def _ours(work: Prepared, server: Registry, _: Path) -> list[list[str]]:
    argv = [sys.executable, "-m", "tests.bench.push_ours", str(work.bundle), server.address]
    return [[*argv, *(["--ca", str(server.ca_file)] if server.ca_file else ["--plain-http"])]]


def _skopeo(work: Prepared, server: Registry, scratch: Path) -> list[list[str]]:
    copy = [*_skopeo_program(scratch), "copy", "--quiet", _verify(server)]
    return [
        [*copy, f"oci-archive:{archive}", f"docker://{server.address}/{tag}"]
        for tag, archive in zip(work.tags, work.archives, strict=True)
    ]


def _skopeo_sync(work: Prepared, server: Registry, scratch: Path) -> list[list[str]]:
    sync = [*_skopeo_program(scratch), "sync", _verify(server), "--src", "dir", "--dest", "docker"]
    return [[*sync, str(work.sync), server.address]]


def _skopeo_program(scratch: Path) -> list[str]:
    """Unless it is told here, its temporary files go to /var/tmp whatever TMPDIR says."""
    return [programs.find("skopeo"), "--tmpdir", str(scratch)]


def _verify(server: Registry) -> str:
    return f"--dest-tls-verify={'true' if server.ca_file else 'false'}"


def _regctl(work: Prepared, server: Registry, _: Path) -> list[list[str]]:
    tls = "enabled" if server.ca_file else "disabled"
    argv = [str(go_build.find(REGCTL)), "--host", f"reg={server.address},tls={tls}"]
    return [
        [*argv, "image", "import", f"{server.address}/{tag}", str(archive)]
        for tag, archive in zip(work.tags, work.archives, strict=True)
    ]


def _crane(work: Prepared, server: Registry, _: Path) -> list[list[str]]:
    return [
        [str(go_build.find(CRANE)), "push", str(layout), f"{server.address}/{tag}"]
        for tag, layout in zip(work.tags, work.layouts, strict=True)
    ]


def _below(*directories: Path) -> list[Path]:
    return [path for place in directories for path in place.rglob("*") if path.is_file()]


TOOLS = {
    "ours": Tool("bundle's push, from the .tar.gz", _ours, lambda work: [work.bundle]),
    "skopeo": Tool("skopeo copy oci-archive:", _skopeo, lambda work: list(work.archives)),
    "skopeo-sync": Tool("skopeo sync, unpacked", _skopeo_sync, lambda work: _below(work.sync)),
    "regctl": Tool("regctl image import", _regctl, lambda work: list(work.archives)),
    "crane": Tool("crane push, unpacked layout", _crane, lambda work: _below(*work.layouts)),
}
