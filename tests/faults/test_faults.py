"""A sample of the sweeps, and whether a sweep would find what it looks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import Row, run_sweep
from tests.faults.changes import FullDisks, SourceChanges
from tests.faults.disk_sweeps import Kills, Refusals, ShortCalls
from tests.faults.jobs import JOBS, Job, World
from tests.faults.power import Disk, PowerCuts
from tests.faults.upload_sweeps import NetworkFaults, UploadKills
from tests.faults.verdict import WORLD, Sweep
from tests.rehearsal import programs

SECONDS = 2.0
QUICK = ("split", "split-zstd", "extract", "extract-bundle", "sign", "receipt")
CARELESS = Job(
    name="careless", arguments=("{place}/out",), prepare="nothing", entry="write-carelessly"
)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(JOBS, dict)
    monkeypatch.setitem(JOBS, CARELESS.name, CARELESS)


def sample(world: World, sweep: Sweep, *, seconds: float = SECONDS) -> Row:
    """Try points spread over a whole sweep, as many as fit into the time."""
    row = run_sweep(world, sweep, step=7, seed=1, seconds=seconds)
    assert row.tried
    return row


@pytest.mark.parametrize(
    "sweep",
    [
        Kills(QUICK),
        Kills(["build"]),
        Kills(["fetch", "fetch-cache"]),
        Refusals(QUICK),
        ShortCalls(QUICK),
        SourceChanges(["build-locked", "extract"]),
        FullDisks(["split", "extract"]),
        UploadKills(),
        NetworkFaults(),
    ],
    ids=lambda sweep: "-".join([sweep.name, *getattr(sweep, "jobs", ())]),
)
def test_whatever_happens_a_rerun_ends_as_a_clean_run(world: World, sweep: Sweep) -> None:
    assert sample(world, sweep).faults == {}


@pytest.mark.parametrize("job", [*QUICK, "build", "fetch", "fetch-cache"])
def test_what_is_named_is_on_the_disk_before(world: World, job: str) -> None:
    assert PowerCuts([job]).try_point(world, job) == []


@pytest.mark.usefixtures("careless")
def test_a_kill_in_the_middle_of_a_careless_job_is_found(world: World) -> None:
    faults = Kills(["careless"]).try_point(world, "careless/write/3")
    assert any("out: file 644" in fault and "under a final name" in fault for fault in faults)
    faults = Kills(["careless"]).try_point(world, "careless/unlink/1")
    assert faults == []


@pytest.mark.usefixtures("careless")
def test_a_refusal_that_a_careless_job_does_not_explain_is_found(world: World) -> None:
    faults = Refusals(["careless"]).try_point(world, "careless/write/2/error=ENOSPC")
    assert any(fault.startswith("status 1, expected 0 or one of [9]") for fault in faults)


@pytest.mark.usefixtures("careless")
def test_a_power_cut_after_a_careless_job_is_found(world: World) -> None:
    faults = PowerCuts(["careless"]).try_point(world, "careless")
    assert faults == [
        "out: its content is not on the disk in the end",
        "out: its name is not on the disk in the end",
    ]


@pytest.mark.usefixtures("careless")
def test_every_point_of_a_careless_job_is_aimed_at(world: World) -> None:
    points = Kills(["careless"]).points(world)
    assert [point for point in points if "/write/" in point] == [
        f"careless/write/{number}" for number in (1, 2, 3)
    ]


def test_the_status_tells_where_standard_error_is_on_a_full_disk(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bundler", "split", str(tmp_path), "--media", "1MiB"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(argv, cwd=programs.ROOT, stderr=full, check=False)
    assert done.returncode == WORLD


CALLS = {
    "write": '1 pwrite64(3</r/.a>, ""..., 5, 0) = 5',
    "flush": "1 fsync(3</r/.a>) = 0",
    "name": '1 renameat(4</r>, ".a", 4</r>, "a") = 0',
    "flush-name": "1 fsync(4</r>) = 0",
}
MAKE = '1 openat(AT_FDCWD</w>, "/r/.a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</r/.a>'


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        ("write flush name flush-name", []),
        ("write name flush-name", ["a: was named so before a was on the disk"]),
        ("flush write name flush-name", ["a: was named so before a was on the disk"]),
        ("write flush name", ["a: its name is not on the disk in the end"]),
        ("write flush flush-name name", ["a: its name is not on the disk in the end"]),
    ],
)
def test_only_what_was_flushed_survives(order: str, faults: list[str]) -> None:
    disk = Disk(Path("/r"))
    disk.replay("\n".join([MAKE, *(CALLS[step] for step in order.split())]))
    found = [*disk.faults, *disk.lost()]
    assert [fault.replace(".a ", "a ") for fault in found if "content" not in fault] == faults


def test_a_call_that_is_interrupted_in_the_log_counts_when_it_ends() -> None:
    disk = Disk(Path("/r"))
    begun = "1 fsync(3</r/.a> <unfinished ...>"
    ended = "1 <... fsync resumed>) = 0"
    steps = [MAKE, CALLS["write"], begun, CALLS["name"].replace("1 ", "2 ", 1), ended]
    disk.replay("\n".join(steps))
    assert disk.faults == ["a: was named so before .a was on the disk"]
