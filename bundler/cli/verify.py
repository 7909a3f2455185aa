"""``bundle verify``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.opening import read_keys, utc_now
from bundler.cli.options import (
    ANY_PATH,
    json_option,
    key_option,
    print_json,
    release_dir_option,
)
from bundler.cli.render import Watcher
from bundler.cli.tables import print_tables
from bundler.describe import Section
from bundler.errors import CheckError, ContentError, printable
from bundler.sizes import size_text
from bundler.tools.helm import Helm
from bundler.verify import ChartClosure, Report, verify_closure, verify_path


@click.command()
@click.argument("path", type=ANY_PATH)
@key_option
@release_dir_option
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
    path: Path,
    key_files: tuple[Path, ...],
    release_dir: Path | None,
    strict: bool,
    complete: bool,
    allow_expired: bool,
    closure: bool,
    as_json: bool,
) -> None:
    """Check a release, or a part of one, against its signature.

    Reads every byte; extracts and changes nothing. PATH is a release directory, a bundle or
    checkpoint archive, or a directory that one of them was extracted to. Every fault is told,
    with file, part and offset.

    With --closure no layer is read. The exit status is 8 where an image is missing.
    """
    if closure:
        if strict or complete:
            raise click.UsageError("--closure goes with neither --strict nor --complete")
        _closure(path, key_files, release_dir, allow_expired=allow_expired, as_json=as_json)
        return
    with Watcher() as emit:
        report = verify_path(
            path,
            read_keys(key_files),
            now=utc_now(),
            release_dir=release_dir,
            strict=strict,
            require_all=complete,
            allow_expired=allow_expired,
            emit=emit,
        )
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json(report.to_dict())
        click.get_current_context().exit(0 if report else ContentError.exit_status)
    report.raise_for_faults()
    click.echo(_verdict(report))


def _closure(
    path: Path,
    key_files: tuple[Path, ...],
    release_dir: Path | None,
    *,
    allow_expired: bool,
    as_json: bool,
) -> None:
    report = verify_closure(
        path,
        read_keys(key_files),
        charts=Helm(),
        now=utc_now(),
        release_dir=release_dir,
        allow_expired=allow_expired,
    )
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json(report.to_dict())
        click.get_current_context().exit(0 if report else CheckError.exit_status)
    print_tables(map(_links, report.charts))
    report.raise_for_missing()
    keys, places = ", ".join(report.signatures), sum(len(chart.links) for chart in report.charts)
    click.echo(f"{report.release}: signed by {keys}; all {places} places have their image here")


def _links(chart: ChartClosure) -> Section:
    rows = [
        (
            printable(item.place.object),
            printable(item.place.container),
            printable(item.place.image),
            item.image.tag.archive_path if item.image else "MISSING",
        )
        for item in chart.links
    ]
    return Section(
        title=f"{chart.name} {chart.version}",
        columns=("object", "container", "image", "archive"),
        rows=tuple(rows),
    )


def _verdict(report: Report) -> str:
    size = size_text(sum(item.size for item in report.checked))
    keys = ", ".join(report.signatures)
    return f"{report.release}: {report.kind} is as signed by {keys}; {size} read"
