"""``bundle inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import (
    ANY_PATH,
    json_option,
    print_json,
    release_dir_option,
    volumes_option,
)
from bundler.cli.source_options import path_or_bucket, require_path, source_options
from bundler.cli.tables import print_tables
from bundler.cli.trust_options import trust_options
from bundler.describe import describe_path
from bundler.release_files import ReleaseFiles
from bundler.trust import Trust


@click.command()
@click.argument("path", callback=path_or_bucket(ANY_PATH))
@source_options("path")
@trust_options
@release_dir_option
@volumes_option
@json_option
def command(
    path: Path | ReleaseFiles,
    trust: Trust,
    release_dir: Path | None,
    volumes: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show what a release holds.

    PATH is a release directory, s3://BUCKET/PREFIX, or one of its archives; no archive is read.
    Without --key or --trust nothing vouches for what is shown.
    """
    if release_dir or volumes:
        require_path(path, "--release and --volumes")
    description = describe_path(path, trust, release_dir=release_dir, elsewhere=volumes)
    if as_json:
        print_json(description.to_dict())
        return
    print_tables(description.sections())
    if not description.signatures:
        click.echo("note: not verified: neither --key nor --trust was given", err=True)
