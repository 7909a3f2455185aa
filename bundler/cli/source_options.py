"""Releases that are named as ``s3://BUCKET/PREFIX``, and how to reach the server they lie on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from bundler.cli.options import FILE, parsed
from bundler.cli.plainly import tell_note
from bundler.reference import S3Prefix, endpoint
from bundler.release_files import ReleaseFiles, ReleaseInBucket
from bundler.stores.opening import open_folder

T = TypeVar("T")


def path_or_bucket(
    path: click.Path,
) -> Callable[[click.Context, click.Parameter, str], Path | S3Prefix]:
    """Make a callback that reads ``s3://BUCKET/PREFIX``, and all else as a path of some kind."""

    def read(ctx: click.Context, param: click.Parameter, text: str) -> Path | S3Prefix:
        if not text.startswith("s3://"):
            return Path(str(path.convert(text, param, ctx)))
        try:
            return S3Prefix.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return read


def source_options(argument: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let an argument name a place in a bucket; the command is given the release's files there.

    Args:
        argument: Of the command, with ``path_or_bucket`` for a callback. A path is handed on as
            it is.
    """

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(command)
        def with_source(
            *arguments: object,
            source_endpoint: str | None,
            source_region: str | None,
            source_ca: Path | None,
            **more: object,
        ) -> T:
            where = more[argument]
            if isinstance(where, S3Prefix):
                more[argument] = _open(where, source_endpoint, source_region, source_ca)
            elif source_endpoint or source_region or source_ca:
                raise click.UsageError("the --source options go with s3://BUCKET/PREFIX")
            return command(*arguments, **more)

        wrapped: Callable[..., T] = with_source
        for option in _OPTIONS:
            wrapped = option(wrapped)
        return wrapped

    return decorate


def require_path(where: Path | ReleaseFiles, option: str) -> Path:
    """Refuse options that are about this machine's files for a release in a bucket."""
    if isinstance(where, Path):
        return where
    raise click.UsageError(f"{option}: expected a path, got {where.shown()}")


_OPTIONS = (
    click.option(
        "--source-ca", type=FILE, metavar="PEM", help="Authority that its certificate is of."
    ),
    click.option(
        "--source-region", metavar="REGION", help="Region of the bucket that holds the release."
    ),
    click.option(
        "--source-endpoint",
        metavar="URL",
        callback=parsed(endpoint),
        help="S3 server that holds the release, if it is not AWS or what AWS_ENDPOINT_URL_S3 "
        "names.",
    ),
)


def _open(where: S3Prefix, server: str | None, region: str | None, ca: Path | None) -> ReleaseFiles:
    return ReleaseInBucket(
        open_folder(where, endpoint=server, region=region, ca=ca, note=tell_note)
    )
