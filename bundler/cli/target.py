"""``bundle target``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from bundler.archive.files import atomic_write_bytes
from bundler.cli.options import NEW_PATH, print_path
from bundler.errors import ConflictError


@click.group()
def command() -> None:
    """Write the file that says where a release goes."""


@command.command()
@click.argument("file", type=NEW_PATH, default="target.yaml")
def init(file: Path) -> None:
    """Write a commented target FILE (target.yaml) to fill in."""
    if file.exists():
        raise ConflictError(f"{file}: is there already", hint="give another name")
    atomic_write_bytes(file, files("bundler").joinpath("target_template.yaml").read_bytes())
    print_path(file)
