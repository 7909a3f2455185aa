"""Whom a person trusts, from the command line: keys, or a trust file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from bundler.archive.files import read_given
from bundler.cli.opening import utc_now
from bundler.cli.options import FILE
from bundler.release_files import shown
from bundler.signing.keys import MAX_KEY_BYTES, PublicKey, read_public_key
from bundler.signing.tuf_roots import MAX_ROOT_BYTES, read_root
from bundler.trust import Trust

T = TypeVar("T")


def trust_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the ways to say whose signatures count; the command is given them as ``trust``."""

    @functools.wraps(command)
    def with_trust(
        *arguments: object,
        key_files: tuple[Path, ...],
        threshold: int | None,
        trust_file: Path | None,
        **more: object,
    ) -> T:
        return command(*arguments, trust=_read_trust(key_files, threshold, trust_file), **more)

    wrapped: Callable[..., T] = with_trust
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS = (
    click.option(
        "--key",
        "key_files",
        type=FILE,
        multiple=True,
        metavar="PUB",
        help="Public key (PEM) that you trust; may be given more than once.",
    ),
    click.option(
        "--threshold",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many of these keys must have signed: 1 if not given.",
    ),
    click.option(
        "--trust",
        "trust_file",
        type=FILE,
        metavar="FILE",
        help="Trust file, in the place of keys: it says whose signatures count, how many must be "
        "there, and until when.",
    ),
)


def read_keys(files: Sequence[Path]) -> tuple[PublicKey, ...]:
    """Read the public keys that the person named."""
    return tuple(
        read_public_key(read_given(file, limit=MAX_KEY_BYTES), name=shown(file)) for file in files
    )


def _read_trust(keys: Sequence[Path], threshold: int | None, file: Path | None) -> Trust:
    if file is not None:
        if keys or threshold is not None:
            raise click.UsageError("--trust goes without --key and --threshold: the file says both")
        root = read_root(read_given(file, limit=MAX_ROOT_BYTES), name=shown(file))
        return Trust.of_root(root, now=utc_now())
    if threshold is not None and not keys:
        raise click.UsageError("--threshold goes with --key")
    return Trust.of_keys(read_keys(keys), threshold or 1)
