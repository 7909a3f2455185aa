"""How images are pushed, from the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from bundler.cli.opening import DIRECT, ENGINES, SKOPEO
from bundler.cli.options import DIRECTORY
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushing:
    """What a person chose.

    Attributes:
        engine: One of ``ENGINES``.
        options: For either engine.
        scratch: Where skopeo unpacks; None for the system's place for temporary files.
    """

    engine: str
    options: PushOptions
    scratch: Path | None


def push_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the ways to push images; the command is given them as ``pushing``."""

    @functools.wraps(command)
    def with_pushing(
        *arguments: object,
        verify: str | None,
        rehash: bool,
        parallel: int,
        engine: str,
        scratch: Path | None,
        **more: object,
    ) -> T:
        _require_fitting(engine, scratch)
        options = PushOptions(parallel=parallel, read_back=verify is not None, rehash=rehash)
        pushing = Pushing(engine=engine, options=options, scratch=scratch)
        return command(*arguments, pushing=pushing, **more)

    wrapped: Callable[..., T] = with_pushing
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _require_fitting(engine: str, scratch: Path | None) -> None:
    """Refuse an option that the engine would pass over."""
    source = click.get_current_context().get_parameter_source("parallel")
    if engine == SKOPEO and source is ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "--parallel goes with --image-engine direct: skopeo sends one image after the other"
        )
    if engine == DIRECT and scratch is not None:
        raise click.UsageError(
            "--scratch goes with --image-engine skopeo: nothing else unpacks images"
        )


_OPTIONS = (
    click.option(
        "--verify",
        "verify",
        type=click.Choice(["read-back"]),
        help="read-back: hash what the registry serves, before anything is tagged.",
    ),
    click.option(
        "--rehash", is_flag=True, help="Hash what is sent, though registry and bucket do."
    ),
    click.option(
        "--parallel",
        type=click.IntRange(1, 32),
        default=DEFAULT_OPTIONS.parallel,
        show_default=True,
        help="Layers to send at once, over all images; not for skopeo.",
    ),
    click.option(
        "--image-engine",
        "engine",
        type=click.Choice(ENGINES),
        default=DIRECT,
        show_default=True,
        help="What pushes images: bundle itself, straight from the release, or skopeo.",
    ),
    click.option(
        "--scratch", type=DIRECTORY, help="Where skopeo unpacks one image at a time; for it alone."
    ),
)
