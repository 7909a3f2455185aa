"""One ``bundle publish`` to a place of its own, and what came of it there and here."""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.errors import BundleError
from bundler.receipt import decode_receipt
from tests.faults.jobs import BUCKET, World, client, environment_of
from tests.faults.machine import Ended, Run
from tests.faults.shores import Shore, registry_lines
from tests.faults.verdict import KILLED, faults_of_telling
from tests.rehearsal.faults import Call
from tests.rehearsal.faults import Fault as NetworkFault

REPOSITORIES = ("one", "two")
_LARGE = "/model.safetensors"
_RECEIPTS = "/receipts/"
_SECONDS = 60
_SETTLED_SECONDS = 0.02


_client = functools.cache(client)  # to make one takes longer than to ask it


def _nothing(call: Call) -> None:
    """Let all requests pass."""


def has_body(call: Call) -> bool:
    """Tell whether a request can be cut in the middle."""
    return int(call.headers.get("content-length", 0)) > 1


@dataclass
class Publishing:
    """Publishes to a new path of the registry, and a new prefix of the bucket.

    Attributes:
        world, shore: Where.
        only: The parts that are published.
        name: The path and the prefix.
        place: The operator's directory.
    """

    world: World
    shore: Shore
    only: Sequence[str]
    name: str = field(default_factory=lambda: f"point-{uuid.uuid4().hex[:12]}")
    place: Path = field(init=False)
    _begun: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._begun = len(self.shore.images.calls), len(self.shore.objects.calls)
        self.place = self.world.scratch / self.name
        for directory in (self.place, self._temporary, self.place / "home"):
            directory.mkdir()
        server = self.shore.server
        lines = ["formatVersion: 1", "registry:", *registry_lines(self.shore, self.name), "s3:"]
        lines += [f"  bucket: {BUCKET}", f"  prefix: {self.name}", f"  region: {server.region}"]
        lines += [f"  endpoint: {self.shore.objects.url}", "apiKey: {secretName: api-key}"]
        (self.place / "target.yaml").write_text("\n".join([*lines, ""]))

    @property
    def _s3(self) -> Any:
        return _client(self.shore.server)

    @property
    def _temporary(self) -> Path:
        return self.place / "tmp"

    @property
    def image_calls(self) -> Sequence[Call]:
        """The requests to the registry since then."""
        return self.shore.images.calls[self._begun[0] :]

    @property
    def object_calls(self) -> Sequence[Call]:
        """The requests to the bucket since then."""
        return self.shore.objects.calls[self._begun[1] :]

    def publish(
        self,
        *,
        strace: Sequence[str] = (),
        fault: NetworkFault = _nothing,
        when_started: Callable[[int], object] = lambda pid: None,
    ) -> Ended:
        """Publish to the end, or to where it is killed, and wait until the proxies are done."""
        proxies = (self.shore.images, self.shore.objects)
        for proxy in proxies:
            proxy.fault = fault
        try:
            ended = self.world.machine.run(self._run(), strace=strace, when_started=when_started)
            self._wait()
        finally:
            for proxy in proxies:
                proxy.fault = _nothing
        return ended

    def _run(self) -> Run:
        inputs = self.world.publishable()
        words = [str(inputs / "release"), "--target", str(self.place / "target.yaml")]
        words += ["--key", str(inputs / "key.pub"), "--yes"]
        words += [word for part in self.only for word in ("--only", part)]
        own = {"TMPDIR": str(self._temporary), "HOME": str(self.place / "home")}
        return Run(
            entry="bundle",
            arguments=["publish", *words],
            cwd=self.place,
            environment={**environment_of(self.shore.server, self.shore.objects.url), **own},
        )

    def _wait(self) -> None:
        ends = time.monotonic() + _SECONDS
        time.sleep(_SETTLED_SECONDS)
        while not all(call.ended for call in (*self.image_calls, *self.object_calls)):
            if time.monotonic() > ends:
                raise TimeoutError("a proxy did not get done with a request")
            time.sleep(_SETTLED_SECONDS)

    def state(self) -> Mapping[str, object]:
        """Tell all that is there but for receipts: of images, of objects, and in the directory."""
        found = dict(self.shore.stored(self.name, REPOSITORIES))
        s3 = self._s3
        for key in self._keys():
            if _RECEIPTS in key:
                continue
            content = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            found[key.removeprefix(self.name)] = self._told(key, content)
        return found | {name: "here" for name in self._here() if not name.endswith(".receipt.json")}

    def _told(self, key: str, content: bytes) -> tuple[object, ...]:
        """Tell what an object is, and what the server tells of it; of markers, without its name."""
        head = self._s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        told = [len(content), head["ContentLength"], head["ContentType"], head["Metadata"]]
        own = content.replace(self.name.encode(), b"-")
        if own == content:
            told += [head["ETag"], head.get("ChecksumSHA256")]
        return (*told, hashlib.sha256(own).hexdigest())

    def unfinished(self) -> Sequence[str]:
        """Name the objects whose upload was begun and not completed; servers tell of one key."""
        s3 = self._s3
        keys = {call.path.removeprefix(f"/{BUCKET}/") for call in self.object_calls}
        return [
            upload["Key"]
            for key in sorted(keys)
            if key.endswith(_LARGE)
            for upload in s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key).get("Uploads", ())
        ]

    def faults_of_receipts(self) -> Iterator[str]:
        """Name what is wrong with the receipts: here, and where the bucket was asked there too."""
        here = {}
        for path in self.place.glob("*.receipt.json"):
            try:
                receipt = decode_receipt(path.read_bytes(), name=path.name)
            except BundleError as error:
                yield str(error)
            else:
                here[f"{receipt.name}.json"] = path.read_bytes()
        keys = [key for key in self._keys() if _RECEIPTS in key]
        s3 = self._s3
        there = {
            key.rpartition("/")[2]: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }
        # For images alone the bucket is not asked: who asks it next writes what was left out.
        if not here and "checkpoints" in self.only:
            yield "no receipt was written here"
        if bool(there) != ("checkpoints" in self.only) or not there.items() <= here.items():
            yield f"receipts: here {sorted(here)}, in the bucket {sorted(there)}"

    def sent_twice(self) -> Iterator[str]:
        """Name what was sent although the registry had it, and what the bucket took twice."""
        taken: set[tuple[str, str]] = set()
        for call in self.image_calls:
            blob = ("" if self.shore.mounts else call.repository, call.digest)
            if call.operation in {"PutBlob", "PatchUpload"} and call.forwarded and blob in taken:
                yield f"{call.repository}: {call.digest} was sent although it was there"
            if call.took_blob:
                taken.add(blob)
        puts = Counter(
            (call.path, call.query.get("partNumber", ""))
            for call in self.object_calls
            if call.method == "PUT" and call.status == 200
        )
        for (path, part), count in puts.items():
            if count > 1:
                yield f"{path} {part}: was taken {count} times"

    def remove(self) -> None:
        """Remove all of it."""
        s3 = self._s3
        for key in self._keys():
            s3.delete_object(Bucket=BUCKET, Key=key)
        self.shore.forget(self.name)
        shutil.rmtree(self.place)

    def _keys(self) -> list[str]:
        listed = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.name}/")
        return [found["Key"] for found in listed.get("Contents", ())]

    def _here(self) -> list[str]:
        return [path.relative_to(self.place).as_posix() for path in self.place.rglob("*")]


@dataclass(frozen=True, slots=True)
class Clean:
    """What a publish that nothing happens to makes, with how many requests, and with a body."""

    state: Mapping[str, object]
    requests: int
    bodies: int

    @classmethod
    def of(cls, publishing: Publishing) -> Clean:
        """Publish to the end."""
        ended = publishing.publish()
        if ended.status:
            raise RuntimeError(f"a clean publish ended with {ended}")
        if faults := [*publishing.faults_of_receipts(), *publishing.sent_twice()]:
            raise RuntimeError(f"a clean publish: {faults}")
        calls = [*publishing.image_calls, *publishing.object_calls]
        bodies = sum(has_body(call) for call in calls)
        return cls(publishing.state(), len(calls), bodies)

    def faults(self, publishing: Publishing, ended: Ended) -> Iterator[str]:
        """Run again after a kill, and name what is wrong then."""
        yield from faults_of_telling(ended, [KILLED])
        again = publishing.publish()
        if again.status:
            yield f"the rerun ended with {again.status}: {again.said.strip()}"
        state = publishing.state()
        for name in sorted({*self.state, *state}):
            if self.state.get(name) != state.get(name):
                yield f"{name}: {state.get(name)} after the rerun, expected {self.state.get(name)}"
        for key in publishing.unfinished():
            yield f"{key}: an unfinished upload after the rerun"
        yield from publishing.sent_twice()
        yield from publishing.faults_of_receipts()
