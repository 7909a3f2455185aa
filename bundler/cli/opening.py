"""From what the command line names to the objects that operations take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bundler.archive.files import read_given
from bundler.archive.scratch import scratch_directory
from bundler.cli.plainly import tell_note
from bundler.cli.registry import open_target_registry
from bundler.cli.source_options import require_path
from bundler.process import MAX_OUTPUT_BYTES, Run, run
from bundler.publish.destination import Destination
from bundler.publish.layout import lay_out
from bundler.publish.only import EVERYTHING, Only
from bundler.publish.pointer import Allowances
from bundler.publish.secrets import WantedSecret, read_secrets
from bundler.publish.travelling import carry_along
from bundler.release import TrustedRelease, open_release
from bundler.release_files import ReleaseFiles
from bundler.spec import Spec, read_spec
from bundler.stores.base import ObjectStore
from bundler.stores.login import Login
from bundler.stores.opening import open_bucket, open_upkeep
from bundler.stores.upkeep import Upkeep
from bundler.target import S3Target, Target
from bundler.target_placeholders import require_filled_in
from bundler.target_reader import read_target
from bundler.tools.cluster import open_cluster
from bundler.trust import Trust
from bundler.yamltext import MAX_YAML_BYTES, read_yaml

DIRECT, SKOPEO = ENGINES = ("direct", "skopeo")
# Stands where a run has no use for the thing: to ask it anything is a defect.
_UNOPENED: Any = object()


def utc_now() -> str:
    """Give the time at which the command first asked, in UTC seconds: one reading decides all."""
    read = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    now: str = click.get_current_context().meta.setdefault(f"{__name__}.now", read)
    return now


def load_spec(file: Path) -> Spec:
    """Read a release spec."""
    return read_spec(read_yaml(read_given(file, limit=MAX_YAML_BYTES), name=str(file)))


def allowances(allow_rollback: int | None, allow_expired: bool, reason: str | None) -> Allowances:
    """Give what ``stale_options`` were set to."""
    if allow_expired != bool(reason):
        raise click.UsageError("--allow-expired and --reason go together")
    return Allowances(rollback=allow_rollback, expired_reason=reason)


def load_target(file: Path) -> Target:
    """Read a target that somebody filled in.

    Raises:
        MalformedError: It breaks a rule, or still has what only the template has.
    """
    document = read_yaml(read_given(file, limit=MAX_YAML_BYTES), name=str(file))
    target = read_target(document, base=file.parent)
    require_filled_in(document)
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Everything that ``plan`` and ``publish`` work with, opened."""

    release: TrustedRelease
    target: Target
    destination: Destination
    secrets: tuple[WantedSecret, ...]


@contextmanager
def open_publication(
    release: Path | ReleaseFiles,
    trust: Trust,
    target_file: Path,
    *,
    volumes: Sequence[Path] = (),
    api_key: str | None = None,
    login: Login | None = None,
    engine: str = DIRECT,
    only: Only = EVERYTHING,
) -> Iterator[Publication]:
    """Open a release and its destination; what is opened ends with the block.

    The signature is judged first: nothing outside is touched for a release that is not trusted.

    Args:
        release: Its directory, or its files in a bucket.
        trust: Whom to trust.
        target_file: Where it goes.
        volumes: Where else archives, or volumes of them, lie.
        api_key: The models' API key, in the place of the target's.
        login: For the registry, in the place of what is written down.
        engine: What pushes images: one of ``ENGINES``.
        only: The parts that are wanted: what they have no use for is not opened, nor its files
            read.
    """
    if volumes:
        require_path(release, "--volumes")
    trusted = open_release(release, trust, elsewhere=volumes)
    if trusted.trust.news:
        tell_note(trusted.trust.news)
    trusted = carry_along(trusted, tell_note)
    target = load_target(target_file)
    only.checkpoints(lay_out(trusted.manifest, target))  # a word that is none is told at once
    secrets = read_secrets(target, api_key=api_key) if only.chart else ()
    with scratch_directory() as own:
        yield Publication(
            release=trusted,
            target=target,
            destination=_destination(target, own, login, engine, only),
            secrets=secrets,
        )


def _destination(
    target: Target, own: Path, login: Login | None, engine: str, only: Only
) -> Destination:
    cluster = open_cluster(target.kubernetes, run=_keeping_in(own))
    store = open_store(target.s3) if only.uses_store else _UNOPENED
    if not only.uses_registry:
        return Destination(store=store, registry=_UNOPENED, cluster=cluster)
    opened = open_target_registry(target.registry, own, login=login, skopeo=engine == SKOPEO)
    return Destination(
        store=store,
        registry=opened.registry,
        cluster=cluster,
        repositories=opened.repositories,
        push_archive=opened.push_archive,
    )


def open_store(s3: S3Target) -> ObjectStore:
    """Open the bucket of a target, to read and to publish."""
    return open_bucket(
        s3.place.bucket,
        endpoint=s3.endpoint,
        region=s3.region,
        ca=s3.ca,
        objects=s3.objects,
        note=tell_note,
    )


def open_store_upkeep(s3: S3Target) -> Upkeep:
    """Open the bucket of a target, to look after it."""
    return open_upkeep(
        s3.place.bucket, endpoint=s3.endpoint, region=s3.region, ca=s3.ca, note=tell_note
    )


def _keeping_in(own: Path) -> Run:
    """Start kubectl and helm so that what they learn of a cluster is kept in no home directory."""

    def run_there(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = MAX_OUTPUT_BYTES,
    ) -> str:
        kept = {"KUBECACHEDIR": str(own / "kubernetes"), **(env or {})}
        return run(argv, stdin=stdin, env=kept, timeout=timeout, limit=limit)

    return run_there
