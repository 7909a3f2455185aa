"""The benchmarks run, with images so small that their figures say nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.bench.measure import FailureError, measure
from tests.bench.tools import TOOLS
from tests.rehearsal import go_build, programs
from tests.rehearsal.fixtures import need as need_to
from tests.rehearsal.go_programs import CRANE, REGCTL
from tests.rehearsal.registry import program


def test_every_tool_pushes_with_and_without_tls(tmp_path: Path) -> None:
    for look in (
        lambda: str(go_build.find(CRANE)),
        lambda: str(go_build.find(REGCTL)),
        lambda: program("distribution"),
        lambda: programs.find("skopeo"),
    ):
        need_to(look)
    report = tmp_path / "report.json"
    argv: list[str | Path] = [programs.ROOT / "scripts/bench", "push", "--scale", "0.001"]
    argv += ["--rounds", "1", "--server", "distribution", "--workload", "shared"]
    argv += ["--directory", tmp_path, "--json", report]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(report.read_text())["runs"]
    got = {(run["case"]["transport"], run["tool"]) for run in runs}
    assert got == {(transport, tool) for transport in ("plain", "tls") for tool in TOOLS}
    ours = [run for run in runs if run["tool"] == "ours"]
    assert all(run["first"]["scratch_bytes"] == 0 for run in ours)
    assert all(run["first"]["wall_seconds"] > 0.0 for run in runs)
    assert "shared, to distribution (tls)" in done.stdout
    assert "regctl's wall / ours" in done.stdout
    assert not list(tmp_path.glob("bench-*"))


def test_what_a_command_costs_is_measured(tmp_path: Path) -> None:
    work = "import os, tempfile, time; data = bytearray(60 << 20); "
    work += "name = tempfile.mkstemp()[1]; open(name, 'wb').write(data[:5 << 20]); "
    work += "time.sleep(0.3); os.unlink(name)"
    python = programs.find("python3")
    cost = measure([[python, "-c", work], [python, "-c", "sum(range(10**7))"]], tmp_path / "one")
    assert cost.wall_seconds > 0.3
    assert cost.cpu_seconds > 0.05
    assert cost.peak_bytes > 60 << 20
    assert cost.scratch_bytes >= 5 << 20


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(FailureError, match=r"^sh ended with 3: no such luck$"):
        measure([["sh", "-c", "echo no such luck; exit 3"], ["true"]], tmp_path / "one")
