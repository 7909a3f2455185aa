"""A sample of the kills of ``bundle publish``, and what they found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.__main__ import run_sweep
from tests.faults.jobs import World
from tests.faults.publish_sweeps import ONLY, Kill, PublishKills, RequestKills
from tests.faults.publishing import Clean, Publishing
from tests.faults.shores import REGISTRIES
from tests.faults.verdict import KILLED, Sweep
from tests.rehearsal import programs
from tests.rehearsal.faults import Action, Call, Cut, Lose
from tests.rehearsal.fixtures import need
from tests.rehearsal.registry import program

SECONDS = 2.0


@pytest.fixture
def publishing(world: World) -> Iterator[Publishing]:
    """Give a new place at Debian's registry, and in the bucket."""
    need(lambda: program("debian"))
    made = Publishing(world, world.shore("debian"), ONLY["both"])
    yield made
    made.remove()


@pytest.mark.parametrize("registry", REGISTRIES)
def test_killed_at_any_request_a_rerun_ends_as_a_clean_run(world: World, registry: str) -> None:
    need_registry(registry)
    sample(world, RequestKills([registry]))


def test_killed_at_any_call_a_rerun_ends_as_a_clean_run(world: World) -> None:
    need_registry("debian")
    sample(world, PublishKills(["debian"]))


def need_registry(kind: str) -> None:
    if kind == "ecr":
        need(lambda: programs.find_in_environment("moto_server"))
    need(lambda: program(kind if kind != "ecr" else "debian"))  # type: ignore[arg-type]


def sample(world: World, sweep: Sweep) -> None:
    row = run_sweep(world, sweep, step=7, seed=1, seconds=SECONDS)
    assert row.tried
    assert row.faults == {}


def test_killed_before_it_wrote_its_receipt_a_rerun_writes_one(publishing: Publishing) -> None:
    kill_at(publishing, "/complete/", "PUT", count=2, answered=True)
    assert list(publishing.faults_of_receipts()) == [
        "no receipt was written here",
        "receipts: here [], in the bucket []",
    ]
    assert publishing.publish().status == 0
    assert list(publishing.faults_of_receipts()) == []


def test_killed_before_its_receipt_is_in_the_bucket_a_rerun_brings_one(
    publishing: Publishing,
) -> None:
    kill_at(publishing, "/receipts/", "PUT", count=1, answered=False)
    assert len(list(publishing.place.glob("*.receipt.json"))) == 1
    assert publishing.publish().status == 0
    assert list(publishing.faults_of_receipts()) == []


def test_a_rerun_after_a_receipt_writes_no_other(publishing: Publishing) -> None:
    Clean.of(publishing)
    before = sorted(publishing.place.rglob("*"))
    assert publishing.publish().status == 0
    assert sorted(publishing.place.rglob("*")) == before


def test_what_a_killed_run_left_of_its_own_files_is_removed_by_the_next(
    publishing: Publishing,
) -> None:
    kill_at(publishing, "/complete/", "PUT", count=1, answered=True)
    assert list((publishing.place / "tmp").iterdir())
    assert publishing.publish().status == 0
    assert not list((publishing.place / "tmp").iterdir())


def kill_at(publishing: Publishing, path: str, method: str, *, count: int, answered: bool) -> None:
    """Publish, and kill at one of the requests for a path: it is done, or was never heard."""
    kill = Kill(0, "")
    seen = []

    def fault(call: Call) -> Action:
        if path not in call.path or call.method != method:
            return None
        seen.append(call)
        if len(seen) != count:
            return None
        return Lose(kill.kill) if answered else Cut(first=kill.kill)

    assert publishing.publish(fault=fault, when_started=kill.start).status == KILLED


def test_a_registry_that_lost_what_it_had_is_found_to_get_it_twice(
    publishing: Publishing,
) -> None:
    clean = Clean.of(publishing)
    publishing.shore.forget(publishing.name)
    found = list(clean.faults(publishing, publishing.publish()))
    assert any("was sent although it was there" in fault for fault in found)


def test_what_differs_from_a_clean_run_is_found(publishing: Publishing) -> None:
    clean = Clean.of(publishing)
    (publishing.place / "tmp" / "left").touch()
    ended = publishing.publish()
    assert list(clean.faults(publishing, ended)) == [
        "tmp/left: here after the rerun, expected None"
    ]
