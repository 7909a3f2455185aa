"""From what the command line names to the objects that operations take."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import read_given
from bundler.digest import Digest
from bundler.process import Run, run
from bundler.publish import Allowances, Destination, WantedSecret, read_secrets
from bundler.release import TrustedRelease, open_release
from bundler.signing.keys import MAX_KEY_BYTES, PublicKey, read_public_key
from bundler.spec import Spec, read_spec
from bundler.stores.opening import open_bucket, open_registry
from bundler.target import RegistryTarget, Target
from bundler.target_reader import read_target
from bundler.tools.cluster import open_cluster
from bundler.tools.skopeo import Skopeo
from bundler.yamltext import MAX_YAML_BYTES, read_yaml

_MAX_CA_BYTES = 1 << 20


def utc_now() -> str:
    """Give the time as this project writes it: UTC seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_keys(files: Sequence[Path]) -> tuple[PublicKey, ...]:
    """Read the public keys that the person trusts."""
    return tuple(
        read_public_key(read_given(file, limit=MAX_KEY_BYTES), name=str(file)) for file in files
    )


def load_spec(file: Path) -> Spec:
    """Read a release spec."""
    return read_spec(read_yaml(read_given(file, limit=MAX_YAML_BYTES), name=str(file)))


def allowances(allow_rollback: int | None, allow_expired: bool, reason: str | None) -> Allowances:
    """Give what ``stale_options`` were set to."""
    if allow_expired != bool(reason):
        raise click.UsageError("--allow-expired and --reason go together")
    return Allowances(rollback=allow_rollback, expired_reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Everything that ``plan`` and ``publish`` work with, opened."""

    release: TrustedRelease
    target: Target
    destination: Destination
    secrets: tuple[WantedSecret, ...]


@contextmanager
def open_publication(
    release: Path, keys: Sequence[Path], target_file: Path, *, api_key: str | None = None
) -> Iterator[Publication]:
    """Open a release and its destination; what is opened ends with the block.

    The signature is judged first: nothing outside is touched for a release that is not trusted.
    """
    trusted = open_release(release, read_keys(keys))
    content = read_given(target_file, limit=MAX_YAML_BYTES)
    target = read_target(read_yaml(content, name=str(target_file)), base=target_file.parent)
    secrets = read_secrets(target, api_key=api_key)
    with tempfile.TemporaryDirectory(prefix="bundle-") as own:
        yield Publication(
            release=trusted,
            target=target,
            destination=_destination(target, Path(own)),
            secrets=secrets,
        )


def _destination(target: Target, own: Path) -> Destination:
    registry, skopeo = target.registry, Skopeo()
    certificates = _certificates(registry, own)

    def push(archive: Path, image: str) -> Digest:
        return skopeo.push(
            archive,
            image,
            plain_http=registry.plain_http,
            authfile=registry.auth_file,
            cert_dir=certificates,
            scratch=archive.parent,
        )

    return Destination(
        store=open_bucket(
            target.s3.place.bucket,
            endpoint=target.s3.endpoint,
            region=target.s3.region,
            ca=target.s3.ca,
        ),
        registry=open_registry(
            registry.host,
            push=push,
            plain_http=registry.plain_http,
            ca=registry.ca,
            authfile=registry.auth_file,
        ),
        cluster=open_cluster(target.kubernetes, run=_keeping_in(own)),
    )


def _keeping_in(own: Path) -> Run:
    """Start kubectl and helm so that what they learn of a cluster is kept in no home directory."""

    def run_there(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> str:
        kept = {"KUBECACHEDIR": str(own / "kubernetes"), **(env or {})}
        return run(argv, stdin=stdin, env=kept, timeout=timeout)

    return run_there


def _certificates(registry: RegistryTarget, own: Path) -> Path | None:
    """Give skopeo the registry's authority in the form it takes: a directory with ``*.crt``."""
    if registry.ca is None:
        return None
    directory = own / "registry"
    directory.mkdir()
    (directory / "ca.crt").write_bytes(read_given(registry.ca, limit=_MAX_CA_BYTES))
    return directory
