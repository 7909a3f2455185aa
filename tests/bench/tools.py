"""The command lines by which each tool brings a workload to a registry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.images import Prepared
from tests.bench.report import OURS
from tests.bench.session import Command, Way
from tests.rehearsal import go_build, programs
from tests.rehearsal.go_programs import CRANE, REGCTL
from tests.rehearsal.registry import Registry


@dataclass(frozen=True, slots=True)
class Push:
    """One push: of what, where to, and a directory for its temporary files."""

    work: Prepared
    server: Registry
    scratch: Path


def _ours(one: Push) -> list[Command]:
    server = one.server
    argv = [sys.executable, "-m", "tests.bench.push_ours", str(one.work.bundle), server.address]
    return [[*argv, *(["--ca", str(server.ca_file)] if server.ca_file else ["--plain-http"])]]


def _skopeo(one: Push) -> list[Command]:
    copy = [*_skopeo_program(one), "copy", "--quiet", _verify(one.server)]
    return [
        [*copy, f"oci-archive:{archive}", f"docker://{one.server.address}/{tag}"]
        for tag, archive in zip(one.work.tags, one.work.archives, strict=True)
    ]


def _skopeo_sync(one: Push) -> list[Command]:
    sync = ["sync", _verify(one.server), "--src", "dir", "--dest", "docker"]
    return [[*_skopeo_program(one), *sync, str(one.work.sync), one.server.address]]


def _skopeo_program(one: Push) -> list[str]:
    """Unless it is told here, its temporary files go to /var/tmp whatever TMPDIR says."""
    return [programs.find("skopeo"), "--tmpdir", str(one.scratch)]


def _verify(server: Registry) -> str:
    return f"--dest-tls-verify={'true' if server.ca_file else 'false'}"


def _regctl(one: Push) -> list[Command]:
    address, tls = one.server.address, "enabled" if one.server.ca_file else "disabled"
    argv = [str(go_build.find(REGCTL)), "--host", f"reg={address},tls={tls}"]
    return [
        [*argv, "image", "import", f"{address}/{tag}", str(archive)]
        for tag, archive in zip(one.work.tags, one.work.archives, strict=True)
    ]


def _crane(one: Push) -> list[Command]:
    return [
        [str(go_build.find(CRANE)), "push", str(layout), f"{one.server.address}/{tag}"]
        for tag, layout in zip(one.work.tags, one.work.layouts, strict=True)
    ]


WAYS = {
    OURS: Way("bundle's push, from the .tar.gz", _ours, _ours),
    "skopeo": Way(
        "skopeo copy oci-archive:, for each image",
        _skopeo,
        _skopeo,
        lambda: programs.find("skopeo"),
    ),
    "skopeo-sync": Way(
        "skopeo sync of an unpacked tree",
        _skopeo_sync,
        _skopeo_sync,
        lambda: programs.find("skopeo"),
    ),
    "regctl": Way("regctl image import", _regctl, _regctl, lambda: go_build.find(REGCTL)),
    "crane": Way("crane push of unpacked layouts", _crane, _crane, lambda: go_build.find(CRANE)),
}


def sources(tool: str, work: Prepared) -> list[Path]:
    """Give the files that a tool reads."""
    match tool:
        case "ours":
            return [work.bundle]
        case "crane":
            return _below(*work.layouts)
        case "skopeo-sync":
            return _below(work.sync)
        case _:
            return list(work.archives)


def _below(*directories: Path) -> list[Path]:
    return [path for place in directories for path in place.rglob("*") if path.is_file()]
