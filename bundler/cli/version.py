"""``bundle version``."""

from __future__ import annotations

import platform

import click

from bundler import __version__
from bundler.cli.options import json_option, print_json
from bundler.manifest import FORMAT_VERSION


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show this version and the formats that it reads."""
    formats = list(range(1, FORMAT_VERSION + 1))
    if as_json:
        print_json({"version": __version__, "reads": formats, "writes": FORMAT_VERSION})
        return
    click.echo(f"bundle {__version__}")
    click.echo(f"reads release formats {', '.join(map(str, formats))}; writes {FORMAT_VERSION}")
    click.echo(f"Python {platform.python_version()}")
