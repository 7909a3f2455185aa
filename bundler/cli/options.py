"""Options that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.cli import JSON_OUTPUT

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
ANY_PATH = click.Path(exists=True, path_type=Path)
NEW_PATH = click.Path(path_type=Path)


def _remember(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_OUTPUT] = value
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_remember, help="Print the result as JSON."
)
key_option = click.option(
    "--key",
    "key_files",
    type=FILE,
    multiple=True,
    metavar="PUB",
    help="Public key (PEM) that you trust; may be given more than once.",
)
target_option = click.option(
    "--target", "target_file", type=FILE, required=True, metavar="FILE", help="Where it goes."
)


def passphrase_options(command: F) -> F:
    """Add the ways to hand over a passphrase: none of them is an argument."""
    command = click.option(
        "--passphrase-fd", type=int, metavar="N", help="Read the passphrase from descriptor N."
    )(command)
    return click.option(
        "--passphrase-file", type=FILE, help="Read the passphrase from the first line of a file."
    )(command)


def read_passphrase(
    file: Path | None, descriptor: int | None, prompt: str, *, confirm: bool = False
) -> bytes:
    """Get a passphrase from where the options say, or ask the person for it."""
    if file is not None:
        return _first_line(file.read_bytes())
    if descriptor is not None:
        with open(descriptor, "rb", closefd=False) as stream:  # noqa: PTH123 - a descriptor
            return _first_line(stream.read(4096))
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for a passphrase: give --passphrase-file")
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode()


def print_json(value: object) -> None:
    """Print a result for machines, on standard output."""
    click.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def _first_line(content: bytes) -> bytes:
    return content.split(b"\n", 1)[0].rstrip(b"\r")
