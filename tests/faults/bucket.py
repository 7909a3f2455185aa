"""An upload to a bucket through a proxy that counts and fails, and what came of it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.parts import MIB
from tests.faults.jobs import BUCKET, World, client
from tests.faults.machine import Ended
from tests.faults.verdict import faults_of_telling
from tests.rehearsal.faults import Call
from tests.rehearsal.faults import Fault as NetworkFault
from tests.rehearsal.faulty_proxy import FaultyProxy

# What a process has in flight: of the large file as many parts as it sends at once, one.
_IN_FLIGHT_BYTES = 5 * MIB
# Each small file, and what is not the content of any.
_SLACK_BYTES = 4096
_SENDING = {"PUT"}


@dataclass
class Destination:
    """A new prefix of the bucket.

    Attributes:
        world: Where.
        proxy: Before its server.
        prefix: Below which all objects lie.
        begun: How many requests the proxy had seen before.
    """

    world: World
    proxy: FaultyProxy
    prefix: str = field(default_factory=lambda: f"point-{uuid.uuid4().hex[:12]}")
    begun: int = field(init=False)

    def __post_init__(self) -> None:
        self.begun = len(self.proxy.calls)

    @property
    def calls(self) -> Sequence[Call]:
        """The requests since then."""
        return self.proxy.calls[self.begun :]

    def upload(self, *, strace: Sequence[str] = (), fault: NetworkFault = lambda _: None) -> Ended:
        """Bring the checkpoint there, or what is left of it."""
        self.proxy.fault = fault
        try:
            run = self.world.upload(self.prefix, self.proxy.url)
            return self.world.machine.run(run, strace=strace)
        finally:
            self.proxy.fault = lambda _: None

    def objects(self) -> Mapping[str, str]:
        """Give the digest of every object."""
        assert self.world.server is not None
        s3 = client(self.world.server)
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", ())
        return {
            found["Key"].removeprefix(f"{self.prefix}/"): hashlib.sha256(
                s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
            ).hexdigest()
            for found in listed
        }

    def unfinished(self) -> Sequence[str]:
        """Name the objects whose upload was begun and not completed."""
        assert self.world.server is not None
        found = client(self.world.server).list_multipart_uploads(
            Bucket=BUCKET, Prefix=f"{self.prefix}/model.safetensors"
        )
        return [upload["Key"] for upload in found.get("Uploads", ())]

    def sent(self) -> int:
        """Sum up the bytes of content that reached the server."""
        return sum(call.forwarded for call in self.calls if call.method in _SENDING)

    def remove(self) -> None:
        """Remove all of it."""
        assert self.world.server is not None
        s3 = client(self.world.server)
        for name in self.objects():
            s3.delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a clean upload makes: the objects, and how many bytes it sends."""

    objects: Mapping[str, str]
    sent: int

    @classmethod
    def of(cls, world: World, proxy: FaultyProxy) -> Wanted:
        """Make a clean upload."""
        place = Destination(world, proxy)
        ended = place.upload()
        if ended.status:
            raise RuntimeError(f"a clean upload ended with {ended}")
        wanted = cls(place.objects(), place.sent())
        place.remove()
        return wanted

    def faults(
        self, place: Destination, ended: Ended, allowed: Sequence[int] = (), *, cuts: int = 1
    ) -> Iterator[str]:
        """Name what is wrong after a run that met a fault, and after the rerun.

        Args:
            place: Where it went.
            ended: How the run ended.
            allowed: Statuses that it may have ended with, beside success.
            cuts: How often something was lost that was in flight.
        """
        yield from faults_of_telling(ended, allowed)
        for name, digest in place.objects().items():
            if self.objects.get(name) != digest:
                yield f"{name}: an object of {digest}, expected {self.objects.get(name)}"
        if ended.status == 0:
            yield from self._faults_of_end(place, "after a success")
        again = place.upload()
        if again.status:
            yield f"the rerun ended with {again.status}: {again.said.strip()}"
        yield from self._faults_of_end(place, "after the rerun")
        most = self.sent + cuts * _IN_FLIGHT_BYTES + _SLACK_BYTES
        if place.sent() > most:
            yield f"{place.sent()} bytes were sent, expected at most {most}"

    def _faults_of_end(self, place: Destination, when: str) -> Iterator[str]:
        found = place.objects()
        if found != self.objects:
            yield f"{when}: objects {sorted(found)}, expected {sorted(self.objects)}"
        if uploads := place.unfinished():
            yield f"{when}: unfinished uploads of {', '.join(uploads)}"
