"""What the sweeps do harm to: commands with their inputs, in a directory that can be compared."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.manifest import MANIFEST_NAME
from tests.faults.inputs import CHECKPOINT
from tests.faults.machine import Machine, Run
from tests.faults.shores import Shore, open_shore
from tests.faults.trees import Tree, Trees, tree
from tests.rehearsal.s3 import S3
from tests.volume_sets import BUNDLE, COMPRESSED_BYTES, TINY, VOLUME_BYTES

BUCKET = "faults"
PREFIX = "fetched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command.

    Attributes:
        name: What the sweeps call it.
        entry: Of ``tests.faults.entries``.
        arguments: For it; ``{place}`` stands for its directory, other words for what is in S3.
        prepare: Of ``tests.faults.inputs``: what writes its inputs.
        varies, unseen: As ``tree`` has them.
        once: Whether it refuses to do again what is done.
        sources: Patterns of files that a sweep may change while they are read.
        from_s3: Whether it reads a bucket.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: str
    entry: str = "bundle"
    varies: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    once: bool = False
    sources: tuple[str, ...] = ()
    from_s3: bool = False

    def tree(self, place: Path) -> Tree:
        """Look at a directory of this job."""
        return tree(place, varies=self.varies, unseen=self.unseen)


_BUILD = ("build", "{place}/in/release.yaml", "-o", "{place}/out")
_SPLIT = ("split", "{place}/release", "--out", "{place}/out")
_EXTRACT = ("extract", "{place}/release", "{place}/to/models", "--key", "{place}/key.pub")
_FETCH = (
    *("fetch", f"s3://{BUCKET}/{PREFIX}/", "{place}/to/models"),
    *("--manifest", f"s3://{BUCKET}/{MANIFEST_NAME}", "--manifest-sha256", "{manifest}"),
    *("--checkpoint", CHECKPOINT),
)
JOBS: Mapping[str, Job] = {
    job.name: job
    for job in (
        Job(
            name="build",
            arguments=(*_BUILD, "--no-cache"),
            prepare="sources",
            once=True,
        ),
        Job(
            name="build-cached",
            arguments=(*_BUILD, "--cache", "{place}/cache"),
            prepare="sources",
            unseen=("cache", "cache/*"),
            once=True,
        ),
        Job(
            name="build-locked",
            arguments=(*_BUILD, "--no-cache"),
            prepare="locked",
            sources=("in/models/*/*.safetensors", "in/models/*/config.json"),
            once=True,
        ),
        Job(
            name="sign",
            arguments=("sign", "{place}/release", "--key", "{place}/key"),
            prepare="unsigned",
            varies=("release/*.sig", "release/*.sigstore.json", "release/*.oms.json"),
        ),
        Job(
            name="split",
            arguments=(*_SPLIT, "--media", str(VOLUME_BYTES)),
            prepare="signed",
            sources=("release/*.tar",),
        ),
        Job(
            name="split-zstd",
            arguments=(*_SPLIT, "--media", str(COMPRESSED_BYTES), "--compress", "zstd"),
            prepare="signed",
            sources=("release/*.tar",),
        ),
        Job(
            name="extract",
            arguments=(*_EXTRACT, "--only", TINY),
            prepare="signed",
            sources=(f"release/{TINY}",),
        ),
        Job(
            name="extract-bundle",
            arguments=(*_EXTRACT, "--only", BUNDLE),
            prepare="signed",
            sources=("release/*.tar.gz",),
        ),
        Job(name="receipt", arguments=("{place}/receipt",), prepare="nothing", entry="write"),
        Job(name="fetch", arguments=_FETCH, prepare="nothing", from_s3=True),
        Job(
            name="fetch-cache",
            arguments=(*_FETCH, "--cache", "{place}/cache"),
            prepare="nothing",
            from_s3=True,
        ),
    )
}


def environment_of(server: S3 | None, endpoint: str | None = None) -> Mapping[str, str]:
    """Give the variables by which every AWS tool finds a server."""
    if server is None:
        return {}
    return {
        "AWS_ACCESS_KEY_ID": server.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": server.credentials.secret_key,
        "AWS_ENDPOINT_URL": endpoint or server.url,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(server: S3) -> Any:
    """Open a client of the server itself."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=server.credentials.secret_key,
    )


@dataclass
class World:
    """Where jobs run.

    Attributes:
        machine: Makes the processes.
        scratch: For everything.
        server: An S3 server with the bucket; None where no job needs one.
        opened: Ends what runs beside it.
    """

    machine: Machine
    scratch: Path
    server: S3 | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    _manifest: str = ""
    _ready: dict[str, Trees] = field(default_factory=dict)
    _shores: dict[str, Shore] = field(default_factory=dict)
    _count: int = 0

    def shore(self, kind: str) -> Shore:
        """Give a registry of a kind, and the bucket, each behind a proxy."""
        if kind not in self._shores:
            assert self.server is not None
            self._shores[kind] = self.opened.enter_context(open_shore(kind, self.server))
        return self._shores[kind]

    def publishable(self) -> Path:
        """Give a directory with a signed release, and the key that vouches for it."""
        return self._prepared("publish", "publishable")

    def place(self, job: Job, *, below: Path | None = None) -> Path:
        """Give a new directory with the inputs of a job."""
        template = self._prepared(job.name, job.prepare)
        self._count += 1
        place = (below or self.scratch) / f"place-{self._count}" / job.name
        shutil.copytree(template, place, symlinks=True)
        return place

    def discard(self, place: Path) -> None:
        """Remove what ``place`` gave."""
        shutil.rmtree(place.parent)

    def run(self, job: Job, place: Path, *, short: str | None = None) -> Run:
        """Say what is to run."""
        if job.from_s3 and not self._manifest:
            self._manifest = self._fill_bucket()
        names = {"place": str(place), "manifest": self._manifest}
        return Run(
            entry=job.entry,
            arguments=[argument.format(**names) for argument in job.arguments],
            cwd=place.parent,
            environment=environment_of(self.server),
            short=short,
        )

    def trees(self, job: Job) -> Trees:
        """Give what a clean run makes of the job's directory."""
        if job.name not in self._ready:
            place = self.place(job)
            before = job.tree(place)
            ended = self.machine.run(self.run(job, place))
            if ended.status:
                raise RuntimeError(f"{job.name}: a clean run ended with {ended}")
            self._ready[job.name] = Trees(before, job.tree(place))
            self.discard(place)
        return self._ready[job.name]

    def release(self) -> Path:
        """Give a release with a checkpoint whose largest file has four parts."""
        directory = self.scratch / "release"
        if not directory.exists():
            self._run("make", str(directory))
        return directory

    def upload(self, prefix: str, endpoint: str | None = None) -> Run:
        """Say how that checkpoint is brought to a prefix of the bucket."""
        assert self.server is not None
        url = f"s3://{BUCKET}/{prefix}/"
        where = [str(self.release()), endpoint or self.server.url, self.server.region, url]
        environment = environment_of(self.server, endpoint)
        return Run(entry="upload", arguments=where, cwd=self.scratch, environment=environment)

    def _prepared(self, name: str, kind: str) -> Path:
        template = self.scratch / f"inputs-{name}"
        if not template.exists():
            template.mkdir()
            self._run("prepare", kind, str(template))
        return template

    def _run(self, entry: str, *arguments: str) -> None:
        ended = self.machine.run(
            Run(entry=entry, arguments=arguments, cwd=self.scratch, environment={})
        )
        if ended.status:
            raise RuntimeError(f"{entry}: ended with {ended}")

    def _fill_bucket(self) -> str:
        """Bring what ``fetch`` reads; gives the digest of the manifest."""
        assert self.server is not None
        ended = self.machine.run(self.upload(PREFIX))
        if ended.status:
            raise RuntimeError(f"a clean upload ended with {ended}")
        content = (self.release() / MANIFEST_NAME).read_bytes()
        client(self.server).put_object(Bucket=BUCKET, Key=MANIFEST_NAME, Body=content)
        return hashlib.sha256(content).hexdigest()
