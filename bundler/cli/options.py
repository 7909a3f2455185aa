"""Options that several commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.archive.files import read_given
from bundler.errors import MalformedError, printable
from bundler.reference import plain_text

_MAX_SECRET_BYTES = 4096
_MAX_REASON = 1000
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
ANY_PATH = click.Path(exists=True, path_type=Path)
ANY_PATH_OR_PIPE = click.Path(exists=True, allow_dash=True, path_type=Path)
PIPE = Path("-")
DESCRIPTOR = click.IntRange(0, 2**31 - 1)
NEW_PATH = click.Path(path_type=Path)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
api_key_option = click.option(
    "--api-key-stdin", is_flag=True, help="Read the models' API key from standard input."
)
release_dir_option = click.option(
    "--release",
    "release_dir",
    type=DIRECTORY,
    help="Where SHA256SUMS, its signatures and MANIFEST.json lie, if not in or beside PATH.",
)
volumes_option = click.option(
    "--volumes",
    "volumes",
    type=DIRECTORY,
    multiple=True,
    metavar="DIR",
    help="Where archives, or volumes of them, lie too, such as a mounted disk; repeatable.",
)
lock_option = click.option(
    "--lock", "lock_file", type=NEW_PATH, metavar="FILE", help="The lock, if not <SPEC>.lock.json."
)
target_option = click.option(
    "--target", "target_file", type=FILE, required=True, metavar="FILE", help="Where it goes."
)


def stale_options(command: F) -> F:
    """Add the ways to allow, by name, what is stale; ``opening.allowances`` reads them."""
    for option in (
        click.option(
            "--reason",
            callback=parsed(_reason),
            help="Why an expired release; one line, written into the receipt.",
        ),
        click.option(
            "--allow-expired",
            is_flag=True,
            help="Deploy it although it is expired; needs --reason.",
        ),
        click.option(
            "--allow-rollback",
            type=int,
            metavar="SEQUENCE",
            help="Deploy this very sequence although a higher one was deployed here; it allows no "
            "other.",
        ),
    ):
        command = option(command)
    return command


def _reason(text: str) -> str:
    if len(text) > _MAX_REASON:
        raise ValueError(f"expected at most {_MAX_REASON} characters, got {len(text)}")
    return plain_text(text)


def parsed(
    rule: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """Make a callback that turns a text into a value by ``rule``, which raises ValueError."""

    def parse(_ctx: click.Context, _param: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else rule(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return parse


def read_passphrase(
    file: Path | None,
    descriptor: int | None,
    prompt: str,
    *,
    confirm: bool = False,
    options: str = "--passphrase-file",
) -> bytes:
    """Get a passphrase or PIN from where the options say, or ask the person for it."""
    if file is not None:
        return first_line(read_given(file, limit=_MAX_SECRET_BYTES))
    if descriptor is not None:
        return first_line(_read_descriptor(descriptor))
    if not sys.stdin.isatty():
        raise click.UsageError(f"{printable(prompt)}: no terminal to ask on: give {options}")
    text: str = click.prompt(
        printable(prompt), hide_input=True, confirmation_prompt=confirm, err=True
    )
    return text.encode()


def _read_descriptor(descriptor: int) -> bytes:
    try:
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(_MAX_SECRET_BYTES)
    except OSError as error:
        raise click.UsageError(f"--passphrase-fd {descriptor}: {error.strerror}") from error


def read_api_key() -> str:
    """Read the models' API key from standard input: its first line."""
    try:
        return first_line(sys.stdin.buffer.read(_MAX_SECRET_BYTES)).decode()
    except UnicodeDecodeError:
        raise MalformedError("standard input: the API key is not text") from None


def print_json(value: object) -> None:
    """Print a result for machines, on standard output; in ASCII, so that no name in it acts."""
    click.echo(json.dumps(value, indent=1, sort_keys=True))


def print_path(path: Path) -> None:
    """Print a path alone on a line: to a script as it is, to a terminal with nothing that acts."""
    click.echo(printable(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def first_line(content: bytes) -> bytes:
    """Give what stands before the first line break."""
    return content.split(b"\n", 1)[0].rstrip(b"\r")
