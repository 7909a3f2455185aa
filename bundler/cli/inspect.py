"""``bundle inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.opening import read_keys
from bundler.cli.options import (
    ANY_PATH,
    json_option,
    key_option,
    print_json,
    release_dir_option,
    volumes_option,
)
from bundler.cli.source_options import path_or_bucket, require_path, source_options
from bundler.cli.tables import print_tables
from bundler.describe import describe_path
from bundler.release_files import ReleaseFiles


@click.command()
@click.argument("path", callback=path_or_bucket(ANY_PATH))
@source_options("path")
@key_option
@release_dir_option
@volumes_option
@json_option
def command(
    path: Path | ReleaseFiles,
    key_files: tuple[Path, ...],
    release_dir: Path | None,
    volumes: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show what a release holds.

    PATH is a release directory, s3://BUCKET/PREFIX, or one of its archives; no archive is read.
    Without --key nothing vouches for what is shown.
    """
    if release_dir or volumes:
        require_path(path, "--release and --volumes")
    description = describe_path(
        path, read_keys(key_files), release_dir=release_dir, elsewhere=volumes
    )
    if as_json:
        print_json(description.to_dict())
        return
    print_tables(description.sections())
    if not description.signatures:
        click.echo("note: not verified: no --key was given", err=True)
