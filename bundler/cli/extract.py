"""``bundle extract``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.json_events import open_watcher
from bundler.cli.opening import utc_now
from bundler.cli.options import (
    ANY_PATH,
    NEW_PATH,
    json_option,
    print_json,
    release_dir_option,
    volumes_option,
)
from bundler.cli.source_options import path_or_bucket, require_path, source_options
from bundler.cli.trust_options import trust_options
from bundler.events import Noted
from bundler.extract import Extracted, extract
from bundler.release_files import ReleaseFiles, shown
from bundler.sizes import size_text
from bundler.trust import Trust


@click.command()
@click.argument("path", callback=path_or_bucket(ANY_PATH))
@source_options("path")
@click.argument("destination", type=NEW_PATH)
@trust_options
@release_dir_option
@volumes_option
@click.option("--only", metavar="NAME", help="Which archive, where PATH is a release.")
@click.option("--allow-expired", is_flag=True, help="Extract an expired release too, and say so.")
@json_option
def command(
    path: Path | ReleaseFiles,
    destination: Path,
    trust: Trust,
    release_dir: Path | None,
    volumes: tuple[Path, ...],
    only: str | None,
    allow_expired: bool,
    as_json: bool,
) -> None:
    """Unpack a checkpoint or the bundle to a directory, verified.

    PATH is an archive, a volume of one, or with --only a release: a directory, or
    s3://BUCKET/PREFIX. What is in the archive's top directory comes to lie in DESTINATION. A file
    is there when all of it is right, and not before; run again to go on. Works on disks, PVCs
    and NFS.
    """
    if release_dir or volumes:
        require_path(path, "--release and --volumes")
    with open_watcher(as_json) as emit:
        done = extract(
            path,
            destination,
            trust,
            now=utc_now(),
            only=only,
            release_dir=release_dir,
            elsewhere=volumes,
            allow_expired=allow_expired,
            emit=emit,
        )
        if done.expired:
            emit(Noted(done.expired))
    if as_json:
        print_json(_to_dict(done, destination))
        return
    keys = ", ".join(done.signatures)
    click.echo(
        f"{shown(destination)}: {done.files} files of {done.archive}, {size_text(done.size)}, as "
        f"signed by {keys}; {size_text(done.written)} written"
    )


def _to_dict(done: Extracted, destination: Path) -> dict[str, object]:
    return {
        "destination": str(destination),
        "archive": done.archive,
        "release": done.release,
        "signatures": list(done.signatures),
        "files": done.files,
        "bytes": done.size,
        "writtenBytes": done.written,
    }
