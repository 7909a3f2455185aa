"""``bundle target``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bundler.archive.files import atomic_write_bytes
from bundler.cli.options import NEW_PATH, print_path
from bundler.errors import ConflictError
from bundler.target_reader import target_template


@click.group()
def command() -> None:
    """Write the file that says where a release goes."""


@command.command()
@click.argument("file", type=NEW_PATH, default="target.yaml")
def init(file: Path) -> None:
    """Write a commented target FILE (target.yaml) to fill in."""
    if os.path.lexists(file):
        raise ConflictError(f"{file}: is there already", hint="give another name")
    atomic_write_bytes(file, target_template())
    print_path(file)
