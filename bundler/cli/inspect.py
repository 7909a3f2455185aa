"""``bundle inspect``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bundler.cli.opening import read_keys
from bundler.cli.options import (
    ANY_PATH,
    json_option,
    key_option,
    print_json,
    release_dir_option,
)
from bundler.describe import Section, describe_path

# Columns where no terminal says how wide it is: enough for a digest and a path in one line.
_PIPED_WIDTH = 200


@click.command()
@click.argument("path", type=ANY_PATH)
@key_option
@release_dir_option
@json_option
def command(
    path: Path, key_files: tuple[Path, ...], release_dir: Path | None, as_json: bool
) -> None:
    """Show what a release holds.

    PATH is a release directory or one of its archives; no archive is read. Without --key
    nothing vouches for what is shown.
    """
    description = describe_path(path, read_keys(key_files), release_dir=release_dir)
    if as_json:
        print_json(description.to_dict())
        return
    console = _Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    for section in description.sections():
        console.print(_table(section))
    if not description.signatures:
        click.echo("note: not verified: no --key was given", err=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader that is gone to the command's boundary, which has a status for it."""
        raise BrokenPipeError


def _table(section: Section) -> Table:
    table = Table(
        title=section.title, title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for column in section.columns:
        table.add_column(column, overflow="fold")
    for row in section.rows:
        table.add_row(*map(Text, row))
    return table
