"""Tables on standard output, for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bundler.describe import Section

# Columns where no terminal says how wide it is: enough for a digest and a path in one line.
_PIPED_WIDTH = 200


def print_tables(sections: Iterable[Section]) -> None:
    """Print tables, one below the other."""
    console = _Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    for section in sections:
        console.print(_table(section))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader that is gone to the command's boundary, which has a status for it."""
        raise BrokenPipeError


def _table(section: Section) -> Table:
    table = Table(
        title=Text(section.title),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for column in section.columns:
        table.add_column(column, overflow="fold")
    for row in section.rows:
        table.add_row(*map(Text, row))
    return table
