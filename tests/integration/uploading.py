"""A checkpoint of a few parts, and ways to upload it: here, and in processes that can be killed."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.digest import Digest
from bundler.events import Event, Noted, ignore
from bundler.manifest import Checkpoint
from bundler.parts import SMALLEST_PART
from bundler.publish.objects import plan_checkpoint
from bundler.publish.plan import Plan
from bundler.publish.rate_limit import RateLimit
from bundler.publish.upload import Upload, UploadOptions
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore
from bundler.stores.opening import open_bucket
from tests.small_release import make_checkpoint

PARTS = 3


@dataclass(frozen=True)
class Cargo:
    """A checkpoint and its archive."""

    checkpoint: Checkpoint
    archive: Path


def make_cargo(directory: Path) -> Cargo:
    """Write a checkpoint of a large file of three parts, and two small ones."""
    weights = b"".join(bytes([number]) * SMALLEST_PART for number in (1, 2)) + b"tail"
    files = {"config.json": b"{}\n", "model.safetensors": weights, "tokenizer.json": b"[]\n"}
    checkpoint = make_checkpoint(directory, directory, "point_1", "point", files)
    return Cargo(checkpoint, directory / "point_1.tar")


def upload(
    cargo: Cargo,
    store: ObjectStore,
    place: S3Prefix,
    *,
    options: UploadOptions | None = None,
    emit: Callable[[Event], None] = ignore,
) -> Plan:
    """Look what is there, send the rest, and give the plan."""
    plan = Plan(
        release="demo",
        manifest=Digest.of(b""),
        steps=tuple(plan_checkpoint(store, cargo.checkpoint, place, emit)),
    )
    sending = Upload(
        store=store,
        place=lambda archive: cargo.archive,
        checks_content=True,
        stop=threading.Event(),
        emit=emit,
        options=options or UploadOptions(),
    )
    sending.send(plan, [(cargo.checkpoint, place)])
    return plan


@dataclass(frozen=True)
class Elsewhere:
    """An upload by a process of its own.

    Attributes:
        process: It.
        notes: What it noted, once it ended.
    """

    process: Any
    notes: Any

    def end(self) -> list[str]:
        """Wait for it, and give its notes."""
        notes: list[str] = self.notes.recv()
        self.process.join()
        assert self.process.exitcode == 0
        return notes


def upload_elsewhere(
    cargo: Cargo, url: str, region: str, place: S3Prefix, *, rate: int
) -> Elsewhere:
    """Upload in a process of its own, at so many bytes a second."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(cargo, url, region, place, rate, there)
    )
    process.start()
    return Elsewhere(process, here)


def _run(cargo: Cargo, url: str, region: str, place: S3Prefix, rate: int, notes: Any) -> None:
    heard: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Noted):
            heard.append(event.text)

    store = open_bucket(place.bucket, endpoint=url, region=region)
    options = UploadOptions(limit=RateLimit(rate), parallel=1)
    upload(cargo, store, place, options=options, emit=hear)
    notes.send(heard)
