from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.errors import ContentError, WorldError
from bundler.events import Event, Noted, Planned, ignore
from bundler.parts import Span
from bundler.process import run
from bundler.publish.layout import lay_out
from bundler.publish.objects import plan_checkpoint
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.rate_limit import RateLimit
from bundler.publish.together import StoppedError, side_by_side
from bundler.publish.upload import Upload, UploadOptions
from bundler.publish.upload_parts import as_signed
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease
from bundler.stores.base import StoredObject
from bundler.target import RegistryTarget, S3Target, Target
from tests.memory_store import MemoryStore
from tests.publishable import make_publishable

TARGET = Target(
    registry=RegistryTarget(host="r.example.com"), s3=S3Target(place=S3Prefix("bucket", "llm"))
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("release") / "demo")


def send(release: TrustedRelease, upload: Upload) -> None:
    """Send every file of one checkpoint."""
    checkpoint = release.manifest.checkpoint("point_1")
    place = lay_out(release.manifest, TARGET).checkpoints[checkpoint.name]
    steps = [
        Step(kind=Kind.CHECKPOINT_FILE, name=place.key(file.path), state=State.TO_DO)
        for file in checkpoint.files
    ]
    plan = Plan(release="demo", manifest=checkpoint.digest, steps=tuple(steps))
    upload.send(plan, [(checkpoint, place)])


def to(
    store: MemoryStore, directory: Path, *, checks_content: bool = True, rehash: bool = False
) -> Upload:
    return Upload(
        store=store,
        place=lambda archive: directory / archive,
        checks_content=checks_content,
        stop=threading.Event(),
        emit=ignore,
        options=UploadOptions(rehash=rehash),
    )


def test_every_file_is_stored_under_its_signed_digest(release: TrustedRelease) -> None:
    store = MemoryStore()
    send(release, to(store, release.directory))
    assert len(list(store.list(""))) == 4


class Forgetful(MemoryStore):
    """Keeps one byte too few of each object, and knows it."""

    def head(self, key: str) -> StoredObject | None:
        found = super().head(key)
        return replace(found, checksum="other") if found else None


class Lying(MemoryStore):
    """Gives other bytes back than its checksum says."""

    def read(self, key: str, offset: int, length: int) -> Any:
        yield b"x" * length


class Silent(Lying):
    """Gives no checksum at all."""

    def head(self, key: str) -> StoredObject | None:
        found = super().head(key)
        return replace(found, checksum=None) if found else None


class Losing(MemoryStore):
    """Loses what it took."""

    def head(self, key: str) -> None:
        return None


@pytest.mark.parametrize(
    ("store", "checks_content", "message"),
    [
        (Forgetful(), True, "has SHA-256 checksum other, expected"),
        (Lying(), False, "holds other bytes than were sent: part 1 of 1"),
        (Silent(), True, "holds other bytes than were sent: part 1 of 1"),
        (Losing(), True, "the store has nothing"),
    ],
)
def test_what_the_store_has_is_compared_and_removed_when_wrong(
    release: TrustedRelease, store: MemoryStore, checks_content: bool, message: str
) -> None:
    with pytest.raises(ContentError, match=message):
        send(release, to(store, release.directory, checks_content=checks_content))
    if not isinstance(store, Losing):
        assert not [item for item in store.list("") if item.size]


class Breaking(MemoryStore):
    """Is gone when an object is to begin."""

    hint: str | None = None

    def begin(self, *_: object, **__: object) -> Any:
        raise WorldError("the connection broke", hint=self.hint)


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (None, "run again: what has arrived counts"),
        ("run again", "run again: what has arrived counts"),
        ("check the network", "check the network; run again: what has arrived counts"),
        ("log in: what has arrived stays", "log in: what has arrived stays"),
    ],
)
def test_an_upload_that_breaks_says_that_what_arrived_is_not_lost(
    release: TrustedRelease, hint: str | None, told: str
) -> None:
    store = Breaking()
    store.hint = hint
    with pytest.raises(WorldError) as caught:
        send(release, to(store, release.directory))
    assert caught.value.hint == told


def test_what_is_ahead_is_told_before_anything_is_sent(release: TrustedRelease) -> None:
    events: list[Event] = []
    send(release, replace(to(MemoryStore(), release.directory), emit=events.append))
    sizes = [file.size for file in release.manifest.checkpoint("point_1").files]
    assert events[0] == Planned(sum(sizes))


class Stuck(MemoryStore):
    """Keeps no checksums, and gives nothing of an object until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read, self.goes_on = threading.Event(), threading.Event()
        self.gone = ""

    def head(self, key: str) -> StoredObject | None:
        if key == self.gone:
            assert self.is_read.wait(20)
            raise WorldError(f"{key}: the server is gone")
        found = super().head(key)
        return replace(found, checksum=None) if found else None

    def read(self, key: str, offset: int, length: int) -> Any:
        self.is_read.set()
        self.goes_on.wait(20)
        yield from super().read(key, offset, length)


def test_when_an_image_fails_no_object_is_read_back_any_more(release: TrustedRelease) -> None:
    store = Stuck()
    upload = to(store, release.directory, checks_content=False)

    def push() -> None:
        assert store.is_read.wait(20)
        raise WorldError("the registry is full")

    began = time.monotonic()
    try:
        with pytest.raises(WorldError, match="the registry is full"):
            side_by_side(upload.stop, lambda: send(release, upload), push)
        assert time.monotonic() - began < 10
    finally:
        store.goes_on.set()


def test_a_look_that_fails_does_not_wait_for_objects_that_are_read_back(
    release: TrustedRelease,
) -> None:
    store = Stuck()
    store.goes_on.set()
    send(release, to(store, release.directory))
    store.is_read.clear()
    store.goes_on.clear()
    checkpoint = release.manifest.checkpoint("point_1")
    place = lay_out(release.manifest, TARGET).checkpoints[checkpoint.name]
    store.gone = place.key("config.json")
    began = time.monotonic()
    try:
        with pytest.raises(WorldError, match="the server is gone"):
            plan_checkpoint(store, checkpoint, place, ignore)
        assert time.monotonic() - began < 10
    finally:
        store.goes_on.set()


def test_a_signal_ends_the_programs_that_work_waits_for() -> None:
    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def push() -> None:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        run(["sleep", "60"])

    stop = threading.Event()
    before = signal.signal(signal.SIGUSR1, interrupt)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side(stop, push)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stop.is_set()
    assert time.monotonic() - began < 20


def test_of_a_part_that_is_hashed_on_its_way_the_last_piece_is_held_back_when_it_is_wrong() -> None:
    pieces = [memoryview(b"right "), memoryview(b"wrong")]
    passed = list(as_signed(iter(pieces), Span(3, 0, 11), Digest.of(b"right wrong")))
    assert b"".join(passed) == b"right wrong"
    given = as_signed(iter(pieces), Span(3, 0, 11), Digest.of(b"right bytes"))
    assert bytes(next(given)) == b"right "
    with pytest.raises(ContentError, match="part 3: expected"):
        next(given)


@pytest.mark.parametrize(("checks_content", "rehash"), [(False, False), (True, True)])
def test_where_the_store_or_the_operator_is_careful_every_part_is_hashed_on_its_way(
    release: TrustedRelease, monkeypatch: pytest.MonkeyPatch, checks_content: bool, rehash: bool
) -> None:
    hashed: list[Digest] = []

    def note(pieces: Any, span: Span, expected: Digest) -> Any:
        hashed.append(expected)
        return as_signed(pieces, span, expected)

    monkeypatch.setattr("bundler.publish.upload_parts.as_signed", note)
    upload = to(MemoryStore(), release.directory, checks_content=checks_content, rehash=rehash)
    send(release, upload)
    files = release.manifest.checkpoint("point_1").files
    assert sorted(hashed) == sorted(part for file in files for part in file.parts)


def test_a_part_whose_digest_is_signed_is_not_hashed_again(
    release: TrustedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(*_: object) -> None:
        raise AssertionError("a part was hashed")

    monkeypatch.setattr("bundler.publish.upload_parts.as_signed", hashed)
    send(release, to(MemoryStore(), release.directory))


def test_a_checkpoint_whose_archive_is_not_needed_any_more_is_told(release: TrustedRelease) -> None:
    told: list[Event] = []
    send(release, replace(to(MemoryStore(), release.directory), emit=told.append))
    assert isinstance(told[-1], Noted)
    assert "point_1.tar is not needed here any more" in told[-1].text


def test_a_fixed_number_of_parts_and_a_limit_are_kept(release: TrustedRelease) -> None:
    waited: list[float] = []
    limit = RateLimit(1000, clock=lambda: 0.0, sleep=waited.append)
    upload = to(MemoryStore(), release.directory)
    send(release, replace(upload, options=UploadOptions(parallel=1, limit=limit)))
    assert waited[-1] > 4  # 5,000 bytes at 1,000 a second


def test_nothing_more_is_begun_once_other_work_failed(release: TrustedRelease) -> None:
    store = MemoryStore()
    upload = to(store, release.directory)
    upload.stop.set()
    with pytest.raises(StoppedError):
        send(release, upload)
    assert not list(store.list(""))
