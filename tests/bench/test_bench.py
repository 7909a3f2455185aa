"""The benchmarks run, with so few bytes that their figures say nothing."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import build, bundle, fetch, session, size, tools, upload, verify
from tests.bench.measure import Cost, FailureError, measure
from tests.bench.memory import chill, warm
from tests.bench.report import OURS, Case, Goal, Run, less_than, near_to
from tests.bench.session import Benchmark, Plan, Way
from tests.rehearsal import go_build, programs
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.fixtures import need as need_to
from tests.rehearsal.go_programs import CRANE, REGCTL, SINK
from tests.rehearsal.registry import program as registry_program
from tests.rehearsal.s3 import program as s3_program

CASE = Case("a case", 10**9)


def bench(directory: Path, name: str, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Run a benchmark once with very little; gives its runs and what it told."""
    report = directory / "report.json"
    argv: list[str | Path] = [programs.ROOT / "scripts/bench", name, "--rounds", "1"]
    argv += ["--directory", directory, "--json", report, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(directory.glob("bench-*"))
    runs: list[dict[str, Any]] = json.loads(report.read_text())["runs"]
    assert all(run["first"]["wall_seconds"] > 0.0 for run in runs)
    assert all(run["first"]["scratch_bytes"] == 0 for run in runs if run["tool"] == OURS)
    return runs, done.stdout


def who(runs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(run["case"]["title"], run["tool"]) for run in runs}


def here(ways: dict[str, Way[Any]]) -> list[str]:
    """Give the tools that are on this machine."""
    found = []
    for name, way in ways.items():
        try:
            way.look()
            found.append(name)
        except RehearsalError:
            continue
    return found


def cost(wall: float, cpu: float = 1.0) -> Cost:
    return Cost(
        wall_seconds=wall, cpu_seconds=cpu, peak_bytes=1 << 20, scratch_bytes=0, written_bytes=0
    )


def benchmark(runs: list[Run], *goals: Goal) -> Benchmark:
    def give(plan: Plan) -> Iterator[Run]:
        return iter(runs)

    ways: dict[str, Way[object]] = {
        name: Way(name, lambda work: []) for name in dict.fromkeys(run.tool for run in runs)
    }
    return Benchmark(
        name="made-up",
        about="Made up.",
        cases=("one",),
        ways=ways,
        measure=give,
        goals=lambda case: goals,
    )


def test_builds_make_the_same_digests_as_the_pipelines(tmp_path: Path) -> None:
    need_to(lambda: programs.find("openssl"))
    runs, told = bench(tmp_path, "build", "--scale", "0.002", "--case", "warm")
    assert who(runs) == {("build, warm", tool) for tool in build.WAYS}
    assert "wall of ours / of floor <= 1.25" in told


def test_every_way_verifies_what_is_in_memory(tmp_path: Path) -> None:
    need_to(lambda: programs.find("taskset"))
    runs, told = bench(tmp_path, "verify", "--scale", "0.002", "--case", "warm")
    assert who(runs) == {("verify, warm", tool) for tool in verify.WAYS}
    assert "speed of ours on all cores / on one" in told


def test_every_compressor_that_is_here_packs(tmp_path: Path) -> None:
    runs, told = bench(tmp_path, "bundle", "--scale", "0.002")
    assert who(runs) == {("bundle, warm", tool) for tool in here(bundle.WAYS)}
    assert all(run["more"]["size MB"] > 2 for run in runs)
    assert "size MB" in told


def test_every_client_uploads_and_the_sink_counts(tmp_path: Path) -> None:
    need_to(lambda: go_build.find(SINK))
    cases = ("small-sink-plain", "large-sink-tls")
    chosen = [argument for case in cases for argument in ("--case", case)]
    runs, _ = bench(tmp_path, "upload", "--scale", "0.01", *chosen)
    assert who(runs) == {(case, tool) for case in cases for tool in here(upload.WAYS)}
    for run in runs:
        assert run["more"]["requests"] >= 5
        assert run["more"]["sent MB"] > 0.03
    ours = [run for run in runs if run["tool"] == OURS]
    assert all(run["more"]["again, sent MB"] == 0 for run in ours)
    [small] = [run for run in ours if run["case"]["title"] == cases[0]]
    assert small["more"]["again, requests"] <= 2 * small["case"]["count"]


def test_every_client_uploads_to_minio(tmp_path: Path) -> None:
    need_to(lambda: s3_program("minio"))
    runs, _ = bench(tmp_path, "upload", "--scale", "0.002", "--case", "large-minio-tls")
    assert who(runs) == {("large-minio-tls", tool) for tool in here(upload.WAYS)}


def test_ours_uploads_to_seaweedfs(tmp_path: Path) -> None:
    need_to(lambda: s3_program("seaweedfs"))
    case = "large-seaweedfs-plain"
    runs, _ = bench(tmp_path, "upload", "--scale", "0.002", "--case", case, "--tool", OURS)
    assert who(runs) == {(case, OURS)}


def test_every_client_fetches(tmp_path: Path) -> None:
    need_to(lambda: s3_program("minio"))
    runs, _ = bench(tmp_path, "fetch", "--scale", "0.002", "--case", "minio-tls")
    assert who(runs) == {("fetch, minio-tls", tool) for tool in here(fetch.WAYS)}
    assert all(run["again"]["wall_seconds"] > 0.0 for run in runs)


def test_small_and_large_checkpoints_go_every_way(tmp_path: Path) -> None:
    need_to(lambda: go_build.find(SINK))
    runs, told = bench(tmp_path, "size", "--scale", "0.0005")
    assert len(who(runs)) == 4 * len(size.WAYS)
    assert told.count("memory for the large one / for the small one") == 4


def test_every_tool_pushes_with_and_without_tls(tmp_path: Path) -> None:
    for look in (
        lambda: str(go_build.find(CRANE)),
        lambda: str(go_build.find(REGCTL)),
        lambda: registry_program("distribution"),
        lambda: programs.find("skopeo"),
    ):
        need_to(look)
    runs, told = bench(
        tmp_path,
        "push",
        "--scale",
        "0.001",
        "--case",
        "shared-distribution-*",
        "--case",
        "start-up",
    )
    pushed = {run for run in who(runs) if run[0] != "start-up"}
    cases = ("shared-distribution-plain", "shared-distribution-tls")
    assert pushed == {(case, tool) for case in cases for tool in tools.WAYS}
    assert "wall of regctl / of ours >= 1" in told
    assert "wall of bundle --help in s" in told


def test_a_report_has_medians_ranges_and_what_became_of_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(tempfile, "tempdir", None)
    runs = [Run(CASE, OURS, cost(wall, 0.5)) for wall in (1.0, 5.0, 2.0)]
    runs += [Run(CASE, "peer", cost(9.0), cost(3.0), {"requests": 7.0})]
    goals = less_than("peer", "wall", 4), near_to("peer", "CPU", 0.4), less_than("absent", "CPU", 1)
    assert benchmark(runs, *goals).main(["--save", "--directory", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "| ours | 2.00 [1.00-5.00] | 0.50 [0.50-0.50] | 0.50 | 1 | 0.0 | 0.0 |  |  |  |" in told
    assert "| peer | 9.00 | 1.00 | 1.00 | 1 | 0.0 | 0.0 | 3.00 | 1.00 | 7 |" in told
    assert "- reached: wall of peer / of ours >= 4: 4.5" in told
    assert "- MISSED: CPU of ours / of peer <= 0.4: 0.5" in told
    assert "absent" not in told
    assert (tmp_path / "figures" / "made-up.md").read_text() == told


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark([Run(CASE, OURS, cost(1.0))]).main(["--tool", "nobody"]) == 1
    assert "nobody: expected some of ours" in capsys.readouterr().err


def test_tools_take_turns() -> None:
    plan = Plan(cases=(), tools=("a", "b", "c"), rounds=3, scale=1, directory=Path())
    assert "".join(plan.turns()) == "abcbcacab"


def test_files_are_in_memory_or_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (8 << 20))
    reading = "import resource, sys; open(sys.argv[1], 'rb').read(); "
    reading += "sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_inblock < 16000)"
    from_disk = [programs.find("python3"), "-c", reading, str(file)]
    chill([file])
    assert subprocess.run(from_disk, check=False).returncode == 0
    warm([file])
    assert subprocess.run(from_disk, check=False).returncode == 1


def test_what_a_command_costs_is_measured(tmp_path: Path) -> None:
    work = "import os, tempfile, time; data = bytearray(60 << 20); "
    work += "name = tempfile.mkstemp()[1]; open(name, 'wb').write(data[:5 << 20]); "
    work += "time.sleep(0.3); os.unlink(name)"
    python = programs.find("python3")
    taken = measure([[python, "-c", work], [python, "-c", "sum(range(10**7))"]], tmp_path / "one")
    assert taken.wall_seconds > 0.3
    assert taken.cpu_seconds > 0.05
    assert taken.peak_bytes > 60 << 20
    assert taken.scratch_bytes >= 5 << 20


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(FailureError, match=r"^sh ended with 3: no such luck$"):
        measure([["sh", "-c", "echo no such luck; exit 3"], ["true"]], tmp_path / "one")
