"""Kills of ``bundle publish``: at every request, and at every call that others may hear of."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.faults.calls import SHOWN, aims
from tests.faults.disk_sweeps import CHANGES
from tests.faults.jobs import World
from tests.faults.publishing import Clean, Publishing, has_body
from tests.faults.upload_sweeps import HEARD
from tests.rehearsal.faults import Action, Call, Cut, Lose

ONLY: Mapping[str, Sequence[str]] = {
    "both": ("images", "checkpoints"),
    "images": ("images",),
    "checkpoints": ("checkpoints",),
}
# Before a request is heard, once it is done, once that was answered; and in the middle of its body.
_MOMENTS = ("unheard", "unanswered", "answered")
_HALF = "half"
# The order of requests differs from run to run, and how often is asked what is there.
_MORE_REQUESTS = 2
_POLL_SECONDS = 0.0005


@dataclass
class Kill:
    """Kills a process at its n-th request, or n-th with a body, to whichever server."""

    number: int
    moment: str
    pid: int = 0
    killed: bool = False
    _seen: int = 0
    _begun: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, call: Call) -> Action:
        """Count a request; say what goes wrong with it."""
        half = self.moment == _HALF
        with self._lock:
            self._seen += has_body(call) if half else 1
            if self._seen != self.number or self._begun:
                return None
            self._begun = True
        if self.moment == "unanswered":
            return Lose(self.kill)
        if self.moment == "answered":
            threading.Thread(target=self._kill_after, args=(call,), daemon=True).start()
            return None
        return Cut(after=int(call.headers["content-length"]) // 2 if half else 0, first=self.kill)

    def kill(self) -> None:
        """Kill it."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def start(self, pid: int) -> None:
        """Say whom."""
        self.pid = pid

    def _kill_after(self, call: Call) -> None:
        while not call.ended:
            time.sleep(_POLL_SECONDS)
        self.kill()


@dataclass
class _Publishes:
    """What both sweeps need: a clean run of each kind, made once."""

    _clean: dict[tuple[str, str], Clean] = field(default_factory=dict)

    @contextmanager
    def to(self, world: World, kind: str, only: str) -> Iterator[tuple[Publishing, Clean]]:
        if (kind, only) not in self._clean:
            with _published(world, kind, only) as first:
                self._clean[kind, only] = Clean.of(first)
        with _published(world, kind, only) as publishing:
            yield publishing, self._clean[kind, only]


@contextmanager
def _published(world: World, kind: str, only: str) -> Iterator[Publishing]:
    publishing = Publishing(world, world.shore(kind), ONLY[only])
    try:
        yield publishing
    finally:
        publishing.remove()


class RequestKills:
    """SIGKILL at every request of a publish."""

    name = "publish"

    def __init__(self, registries: Sequence[str], only: Sequence[str] = ("both",)) -> None:
        self._registries, self._only = registries, only
        self._publishes = _Publishes()

    def points(self, world: World) -> list[str]:
        """List all points."""
        found = []
        for kind in self._registries:
            for only in self._only:
                with self._publishes.to(world, kind, only) as (_, clean):
                    most = dict.fromkeys(_MOMENTS, clean.requests + _MORE_REQUESTS)
                most[_HALF] = clean.bodies
                found += [
                    f"{kind}/{only}/{moment}/{number}"
                    for moment, count in most.items()
                    for number in range(1, count + 1)
                ]
        return found

    def try_point(self, world: World, point: str) -> list[str]:
        """Kill at one point; gives what is wrong afterwards."""
        kind, only, moment, number = point.split("/")
        kill = Kill(int(number), moment)
        with self._publishes.to(world, kind, only) as (publishing, clean):
            ended = publishing.publish(fault=kill, when_started=kill.start)
            return list(clean.faults(publishing, ended))


class PublishKills:
    """SIGKILL at every call of a publish that a server may hear of, or that changes a file."""

    name = "kill-publish"

    def __init__(self, registries: Sequence[str], only: Sequence[str] = ("both",)) -> None:
        self._registries, self._only = registries, only
        self._publishes = _Publishes()

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""
        names = tuple(dict.fromkeys((*CHANGES, *HEARD)))
        trace = ["-e", f"trace={','.join((*names, 'execve'))}", *SHOWN]
        found = []
        for kind in self._registries:
            for only in self._only:
                with self._publishes.to(world, kind, only) as (publishing, _):
                    calls = publishing.publish(strace=trace).calls
                    seen = aims(calls, names, publishing.place, sockets=True)
                found += [f"{kind}/{only}/{aim}" for aim in seen]
        return found

    def try_point(self, world: World, point: str) -> list[str]:
        """Kill at one point; gives what is wrong afterwards."""
        kind, only, name, number = point.split("/")
        inject = ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}"]
        with self._publishes.to(world, kind, only) as (publishing, clean):
            ended = publishing.publish(strace=inject)
            return list(clean.faults(publishing, ended))
