"""Kills of an upload, and a network that fails at every request of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.bucket import Destination, Wanted
from tests.faults.calls import SHOWN, aims
from tests.faults.jobs import World
from tests.faults.verdict import KILLED
from tests.rehearsal.faults import Action, Answer, Call, Cut, CutAnswer, Lose, Stall
from tests.rehearsal.faulty_proxy import FaultyProxy, faulty_proxy

HEARD = ("connect", "sendto", "sendmsg", "write", "sendfile", "recvfrom", "poll", "close")
_XML = {"Content-Type": "application/xml"}


def _refusal(status: int, code: str) -> Answer:
    return Answer(
        status, _XML, f"<Error><Code>{code}</Code><Message>now</Message></Error>".encode()
    )


_COMPLETING = "200-with-error"
_FAULTS: Mapping[str, Action] = {
    "cut": Cut(),
    "cut-after-1": Cut(after=1),
    "cut-after-3-mb": Cut(after=3_000_000),
    "lose-answer": Lose(),
    "cut-answer": CutAnswer(10),
    "slow-down": _refusal(503, "SlowDown"),
    "internal-error": _refusal(500, "InternalError"),
    "pause": Stall(seconds=0.3, after=100),
    "stall": Stall(seconds=3.0, after=100),  # longer than the upload waits
    _COMPLETING: _refusal(200, "InternalError"),
}


def _completes(call: Call) -> bool:
    return call.method == "POST" and "uploadId" in call.query


@dataclass
class _Uploads:
    """What both sweeps need of a world; made at the first point."""

    wanted: Wanted | None = None

    @contextmanager
    def to(self, world: World) -> Iterator[tuple[Destination, Wanted]]:
        assert world.server is not None
        with faulty_proxy(world.server) as proxy:
            wanted = self.wanted = self.wanted or Wanted.of(world, proxy)
            place = Destination(world, proxy)
            yield place, wanted
            place.remove()


class UploadKills:
    """SIGKILL at every call of an upload that the server may hear of."""

    name = "kill-upload"

    def __init__(self, jobs: Sequence[str] = ()) -> None:
        self._uploads = _Uploads()

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""
        with self._uploads.to(world) as (place, _):
            trace = ["-e", f"trace={','.join((*HEARD, 'execve'))}", *SHOWN]
            calls = place.upload(strace=trace).calls
        return list(map(str, aims(calls, HEARD, world.scratch, sockets=True)))

    def try_point(self, world: World, point: str) -> list[str]:
        """Kill at one point; gives what is wrong afterwards."""
        name, number = point.split("/")
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        with self._uploads.to(world) as (place, wanted):
            ended = place.upload(strace=["-e", f"trace={name}", "-e", inject])
            return list(wanted.faults(place, ended, [KILLED]))


class NetworkFaults:
    """One request of an upload goes wrong, in one of many ways."""

    name = "network"

    def __init__(self, jobs: Sequence[str] = ()) -> None:
        self._uploads = _Uploads()

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""
        with self._uploads.to(world) as (place, _):
            place.upload()
            calls = list(place.calls)
        return [
            f"{number}/{fault}"
            for number, call in enumerate(calls, 1)
            for fault in _FAULTS
            if fault != _COMPLETING or _completes(call)
        ]

    def try_point(self, world: World, point: str) -> list[str]:
        """Fail at one point; gives what is wrong afterwards."""
        number, fault = point.split("/")
        with self._uploads.to(world) as (place, wanted):
            ended = place.upload(fault=_once(place.proxy, place.begun + int(number), fault))
            return list(wanted.faults(place, ended))


def _once(proxy: FaultyProxy, number: int, fault: str) -> Callable[[Call], Action]:
    """Fail at the request of a number, or for a completion at the first one from there on."""
    done: list[Call] = []

    def act(call: Call) -> Action:
        late = fault == _COMPLETING and not _completes(call)
        if done or call.number < number or late:
            return None
        done.append(call)
        return _FAULTS[fault]

    return act
