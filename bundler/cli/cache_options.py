"""The options that say where what builds found out is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.build.cache import BuildCache
from bundler.cli.options import NEW_PATH
from bundler.events import Emit

F = TypeVar("F", bound=Callable[..., Any])


def cache_options(command: F) -> F:
    """Add the options of what is kept between builds; ``open_cache`` reads them."""
    command = click.option(
        "--no-cache", is_flag=True, help="Read and hash every file, and keep nothing."
    )(command)
    return click.option(
        "--cache",
        "cache_dir",
        type=NEW_PATH,
        metavar="DIR",
        help="Where to keep what was found out about sources; ~/.cache/bundle if unset.",
    )(command)


def open_cache(cache_dir: Path | None, *, no_cache: bool, emit: Emit) -> BuildCache | None:
    """Give the cache that the options name, or the user's own.

    Raises:
        click.UsageError: Both were given.
    """
    if no_cache and cache_dir is not None:
        raise click.UsageError("expected --cache or --no-cache, got both")
    return None if no_cache else BuildCache(cache_dir or _default(), emit=emit)


def _default() -> Path:
    """Give the user's directory for what can be found out anew.

    Source:
        XDG Base Directory Specification: a relative path in the variable is to be ignored.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (base if base.is_absolute() else Path.home() / ".cache") / "bundle"
