"""A push that is killed or meets a bad network: in the end the registry has what it should have.

Each push is a process of its own, through a proxy that counts and fails on purpose, and below a
path of the registry of its own.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from bundler.oci_manifest import OCI_MANIFEST
from tests.bench.images import Prepared, Workload, prepare
from tests.rehearsal import programs
from tests.rehearsal.faults import Action, Answer, Call, Cut, CutAnswer, Fault, Lose, Stall
from tests.rehearsal.faulty_proxy import FaultyProxy, faulty_proxy
from tests.rehearsal.registry import Registry

_SECONDS = 60
_SHARED = (300_000, 1)
_IMAGES = Workload(
    "two images that share a layer",
    {"one": [_SHARED, (200_000, 2), (500, 3)], "two": [_SHARED, (70_000, 4)]},
)
_SENDING = ("PutBlob", "PatchUpload")


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("push") / "images", _IMAGES)


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultyProxy]:
    with faulty_proxy(registry) as between:
        yield between


@dataclass
class Pushing:
    """Pushes through a proxy, below one path of the registry."""

    work: Prepared
    registry: Registry
    proxy: FaultyProxy
    path: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tests.bench.push_ours", "--plain-http"]
        process = subprocess.Popen(
            [*argv, self.work.bundle, f"{self.proxy.address}/{self.path}"],
            cwd=programs.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def push(self) -> int:
        """Push to the end, and wait until the proxy has no more to do; gives the exit status."""
        with self.start() as process:
            _, said = process.communicate(timeout=_SECONDS)
        assert process.returncode <= 0, said
        wait_for(lambda: all(call.ended for call in self.proxy.calls))
        return process.returncode

    def kill(self) -> None:
        self.running[-1].kill()
        self.running[-1].wait()

    def state(self) -> Mapping[str, object]:
        """Everything that the registry has of the images, asked without the proxy."""
        found: dict[str, object] = {}
        for tag in self.work.tags:
            base = f"/v2/{self.path}/{tag.name}"
            _, tags = self.ask("GET", f"{base}/tags/list")
            found[f"{tag.name} tags"] = json.loads(tags)["tags"]
            status, manifest = self.ask("GET", f"{base}/manifests/{tag.tag}")
            found[f"{tag.name} manifest"] = (status, manifest)
            named = json.loads(manifest)
            for blob in [named["config"], *named["layers"]]:
                answer = self.ask("GET", f"{base}/blobs/{blob['digest']}")
                found[f"{tag.name} {blob['digest']}"] = (answer[0], len(answer[1]))
        return found

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        address = (self.registry.host, self.registry.port)
        with closing(http.client.HTTPConnection(*address, timeout=_SECONDS)) as connection:
            connection.request(method, path, headers={"Accept": OCI_MANIFEST})
            response = connection.getresponse()
            return response.status, response.read()

    def sent(self) -> list[Call]:
        """The requests that brought bytes of a blob, in their order."""
        return [call for call in self.proxy.calls if call.operation in _SENDING and call.forwarded]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def whole(work: Prepared) -> Mapping[str, object]:
    """What the registry has after a push to the end, by what the archives hold."""
    found: dict[str, object] = {}
    for tag, layout, digest in zip(work.tags, work.layouts, work.digests, strict=True):
        blobs = layout / "blobs" / "sha256"
        manifest = (blobs / digest.removeprefix("sha256:")).read_bytes()
        found[f"{tag.name} tags"] = [tag.tag]
        found[f"{tag.name} manifest"] = (200, manifest)
        named = json.loads(manifest)
        for blob in [named["config"], *named["layers"]]:
            found[f"{tag.name} {blob['digest']}"] = (200, blob["size"])
    return found


def sent_again(calls: Sequence[Call]) -> set[str]:
    """Blobs that were sent once more after the registry had taken them."""
    taken: set[str] = set()
    again = set()
    for call in calls:
        if call.operation in _SENDING and call.forwarded and call.digest in taken:
            again.add(call.digest)
        if call.took_blob:
            taken.add(call.digest)
    return again


@pytest.fixture
def pushing(work: Prepared, registry: Registry, proxy: FaultyProxy) -> Pushing:
    return Pushing(work, registry, proxy, f"faults-{uuid.uuid4().hex[:12]}")


def test_a_clean_push_sends_every_blob_once(pushing: Pushing) -> None:
    assert pushing.push() == 0
    assert pushing.state() == whole(pushing.work)
    digests = Counter(call.digest for call in pushing.sent())
    assert set(digests.values()) == {1}
    assert sum(call.forwarded for call in pushing.sent()) == sum(
        path.stat().st_size for path in blob_files(pushing.work)
    )


def blob_files(work: Prepared) -> list[Path]:
    """Every config and layer, the shared ones once."""
    manifests = {digest.removeprefix("sha256:") for digest in work.digests}
    blobs = {
        path.name: path for layout in work.layouts for path in (layout / "blobs/sha256").iterdir()
    }
    return [path for name, path in blobs.items() if name not in manifests]


def test_a_second_push_sends_nothing(pushing: Pushing) -> None:
    assert pushing.push() == 0
    first = len(pushing.proxy.calls)
    assert pushing.push() == 0
    methods = {call.method for call in pushing.proxy.calls[first:]}
    assert methods <= {"GET", "HEAD"}
    assert pushing.state() == whole(pushing.work)


def test_killed_after_any_request_a_rerun_ends_as_a_clean_run(pushing: Pushing) -> None:
    """The registry has done the request; of its answer, and of all later ones, nothing is known.

    A kill just before the next request looks the same to the registry.
    """
    path, killed = pushing.path, 0
    for number in count(1):
        pushing.path = f"{path}/{number}"
        pushing.proxy.calls.clear()
        pushing.proxy.fault = lambda call, at=number: (  # type: ignore[misc]
            Lose(pushing.kill) if call.number == at else None
        )
        status = pushing.push()
        pushing.proxy.fault = lambda _: None
        if status == 0:
            break
        killed += 1
        assert pushing.push() == 0
        assert pushing.state() == whole(pushing.work), f"killed after request {number}"
        assert not sent_again(pushing.proxy.calls), f"killed after request {number}"
    assert killed > 20


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_killed_in_the_middle_of_any_blob_a_rerun_ends_as_a_clean_run(
    pushing: Pushing, part: float
) -> None:
    path = pushing.path
    for number in count(1):
        pushing.path = f"{path}/{number}"
        pushing.proxy.calls.clear()
        pushing.proxy.fault = kill_in_blob(pushing, number, part)
        status = pushing.push()
        pushing.proxy.fault = lambda _: None
        if status == 0:
            break
        assert pushing.push() == 0
        assert pushing.state() == whole(pushing.work)
        assert not sent_again(pushing.proxy.calls)
    assert number > len(blob_files(pushing.work))


def kill_in_blob(pushing: Pushing, number: int, part: float) -> Fault:
    """Kill while the blob of that number is sent."""
    seen = count(1)

    def fault(call: Call) -> Action:
        if call.operation == "PutBlob" and next(seen) == number:
            size = int(call.headers.get("content-length", 0))
            return Cut(after=int(size * part), first=pushing.kill)
        return None

    return fault


def first_time(operation: str, action: Action) -> Fault:
    """Let something go wrong once for each thing that is asked for by one kind of request."""
    seen: set[tuple[str, str]] = set()

    def fault(call: Call) -> Action:
        key = (call.repository, call.digest)
        if call.operation != operation or key in seen:
            return None
        seen.add(key)
        return action

    return fault


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("HeadBlob", Cut()),
        ("HeadBlob", Answer(503)),
        ("GetManifest", CutAnswer(10)),
        ("StartUpload", Lose()),
        ("StartUpload", Answer(429, {"Retry-After": "1"})),
        ("PutBlob", Cut(after=1)),
        ("PutBlob", Cut(after=400)),
        ("PutBlob", Cut(after=65537)),
        ("PutBlob", Lose()),
        ("PutBlob", Answer(429, {"Retry-After": "1"})),
        ("PutBlob", Answer(503, {"Retry-After": "1"})),
        ("PutBlob", Stall(seconds=1.0, after=200)),
        ("Mount", Lose()),
        ("Mount", Answer(502)),
        ("PutManifest", Lose()),
        ("PutManifest", Cut()),
        ("PutManifest", Answer(500)),
        ("PutManifest", Answer(429, {"Retry-After": "1"})),
    ],
    ids=str,
)
def test_what_goes_wrong_once_is_overcome(pushing: Pushing, operation: str, action: Action) -> None:
    pushing.proxy.fault = first_time(operation, action)
    assert pushing.push() == 0
    assert pushing.state() == whole(pushing.work)
    assert not sent_again(pushing.proxy.calls)
    assert operation in pushing.proxy.operations()


def test_a_registry_that_never_comes_back_leaves_no_tag(pushing: Pushing) -> None:
    pushing.proxy.fault = lambda call: Answer(403) if call.operation == "PutManifest" else None
    with pushing.start() as process:
        _, said = process.communicate(timeout=_SECONDS)
    assert process.returncode == 1
    assert "403" in said
    for tag in pushing.work.tags:
        status, _ = pushing.ask("GET", f"/v2/{pushing.path}/{tag.name}/manifests/{tag.tag}")
        assert status == 404
