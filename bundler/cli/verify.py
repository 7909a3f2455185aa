"""``bundle verify``."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection
from pathlib import Path

import click

from bundler.cli.json_events import open_watcher
from bundler.cli.opening import utc_now
from bundler.cli.options import (
    ANY_PATH_OR_PIPE,
    PIPE,
    json_option,
    print_json,
    release_dir_option,
    volumes_option,
)
from bundler.cli.source_options import path_or_bucket, require_path, source_options
from bundler.cli.tables import print_tables
from bundler.cli.trust_options import trust_options
from bundler.describe import Section
from bundler.errors import CheckError, ContentError, printable
from bundler.events import Emit, Noted
from bundler.manifest import Image
from bundler.release_files import ReleaseFiles
from bundler.sizes import size_text
from bundler.tools.helm import Helm
from bundler.trust import Trust
from bundler.verify import ChartClosure, Report, verify_closure, verify_path, verify_stream

_PIPE_USAGE = "a pipe needs --release DIR and --only NAME, and no other"


@click.command()
@click.argument("path", callback=path_or_bucket(ANY_PATH_OR_PIPE))
@source_options("path")
@trust_options
@release_dir_option
@volumes_option
@click.option(
    "--only", metavar="NAME[/PATH]", help="One archive, or one file of it, and nothing else."
)
@click.option(
    "--quick", is_flag=True, help="Signatures, sizes and structure only: no content is read."
)
@click.option("--strict", is_flag=True, help="Make every file that is not signed a fault.")
@click.option("--complete", is_flag=True, help="Make an absent checkpoint archive a fault.")
@click.option("--allow-expired", is_flag=True, help="Judge an expired release too, and say so.")
@click.option(
    "--closure",
    is_flag=True,
    help="Instead, render every chart and show that each image it names is here; needs helm.",
)
@json_option
def command(
    path: Path | ReleaseFiles,
    trust: Trust,
    release_dir: Path | None,
    volumes: tuple[Path, ...],
    only: str | None,
    quick: bool,
    strict: bool,
    complete: bool,
    allow_expired: bool,
    closure: bool,
    as_json: bool,
) -> None:
    """Check a release, or a part of one, against its signature.

    Reads every byte; extracts and changes nothing. PATH is a release directory, a bundle or
    checkpoint archive, a volume of one, a directory that one of them was extracted to, or a
    release in a bucket: s3://BUCKET/PREFIX. Every fault is told, with file, part, offset and
    volume. PATH `-` is a pipe that carries one archive: --only says which, --release where its
    small files lie.

    With --closure no layer is read. The exit status is 8 where an image is missing.
    """
    if closure:
        if strict or complete or quick or only or volumes:
            raise click.UsageError(
                "--closure goes with --key or --trust, --release and --allow-expired only"
            )
        _closure(
            require_path(path, "--closure"),
            trust,
            release_dir,
            allow_expired=allow_expired,
            as_json=as_json,
        )
        return
    if release_dir or volumes:
        require_path(path, "--release and --volumes")
    with open_watcher(as_json) as emit:
        if path == PIPE:
            if quick or strict or complete or volumes:
                raise click.UsageError(_PIPE_USAGE)
            report = _from_pipe(trust, release_dir, only, emit, allow_expired=allow_expired)
        else:
            report = verify_path(
                path,
                trust,
                now=utc_now(),
                release_dir=release_dir,
                elsewhere=volumes,
                quick=quick,
                only=only,
                strict=strict,
                require_all=complete,
                allow_expired=allow_expired,
                emit=emit,
            )
        for note in report.notes:
            emit(Noted(note))
    if as_json:
        print_json(report.to_dict())
        click.get_current_context().exit(0 if report else ContentError.exit_status)
    report.raise_for_faults()
    click.echo(_verdict(report))


def _from_pipe(
    trust: Trust,
    release_dir: Path | None,
    only: str | None,
    emit: Emit,
    *,
    allow_expired: bool,
) -> Report:
    if release_dir is None or only is None:
        raise click.UsageError(_PIPE_USAGE)
    return verify_stream(
        io.FileIO(sys.stdin.fileno(), closefd=False),
        trust,
        now=utc_now(),
        release_dir=release_dir,
        only=only,
        allow_expired=allow_expired,
        emit=emit,
    )


def _closure(
    path: Path,
    trust: Trust,
    release_dir: Path | None,
    *,
    allow_expired: bool,
    as_json: bool,
) -> None:
    report = verify_closure(
        path,
        trust,
        charts=Helm(),
        now=utc_now(),
        release_dir=release_dir,
        allow_expired=allow_expired,
    )
    with open_watcher(as_json) as emit:
        for note in report.notes:
            emit(Noted(note))
    if as_json:
        print_json(report.to_dict())
        click.get_current_context().exit(0 if report else CheckError.exit_status)
    damaged = {image for image, _ in report.damaged}
    print_tables(_links(chart, damaged) for chart in report.charts)
    report.raise_for_missing()
    keys, places = ", ".join(report.signatures), sum(len(chart.links) for chart in report.charts)
    click.echo(f"{report.release}: signed by {keys}; all {places} places have their image here")


def _links(chart: ChartClosure, damaged: Collection[str]) -> Section:
    places = [(item.place, _archive(item.image, damaged)) for item in chart.links]
    places += [(place, f"not an image: {reason}") for place, reason in chart.not_images]
    return Section(
        title=f"{chart.name} {chart.version}",
        columns=("object", "container", "image", "archive"),
        rows=tuple(
            (printable(p.object), printable(p.container), printable(p.image), printable(what))
            for p, what in places
        ),
    )


def _archive(image: Image | None, damaged: Collection[str]) -> str:
    if image is None:
        return "MISSING"
    return "DAMAGED: " * (str(image.tag) in damaged) + image.tag.archive_path


def _verdict(report: Report) -> str:
    size = size_text(sum(item.size for item in report.checked))
    keys = ", ".join(report.signatures)
    if report.scope.quick:
        unread = size_text(sum(item.size for item in report.unread))
        return (
            f"{report.release}: names, sizes and structure are as signed by {keys}; "
            f"NOT CHECKED: the content, {unread}"
        )
    what = report.scope if report.scope.archive else report.kind
    return f"{report.release}: {what} is as signed by {keys}; {size} read"
