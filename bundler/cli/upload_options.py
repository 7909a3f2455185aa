"""How checkpoints are uploaded, and how fast anything is sent, from the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import click

from bundler.cli.opening import SKOPEO
from bundler.cli.options import parsed
from bundler.cli.push_options import Pushing
from bundler.publish.rate_limit import RateLimit
from bundler.publish.upload import UploadOptions
from bundler.publish.upload_climb import MOST_LANES
from bundler.sizes import parse_size

T = TypeVar("T")


def upload_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the ways to upload; the command is given them as ``uploading``.

    It stands below ``push_options``, whose choices it completes: one limit is for all.
    """

    @functools.wraps(command)
    def with_uploading(
        *arguments: object,
        pushing: Pushing,
        limit_rate: int | None,
        upload_parallel: int | None,
        **more: object,
    ) -> T:
        if limit_rate is not None and pushing.engine == SKOPEO:
            raise click.UsageError(
                "--limit-rate goes with --image-engine direct: skopeo knows no limit"
            )
        limit = None if limit_rate is None else RateLimit(limit_rate)
        uploading = UploadOptions(
            parallel=upload_parallel, limit=limit, rehash=pushing.options.rehash
        )
        pushing = replace(pushing, options=replace(pushing.options, limit=limit))
        return command(*arguments, pushing=pushing, uploading=uploading, **more)

    wrapped: Callable[..., T] = with_uploading
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS = (
    click.option(
        "--limit-rate",
        callback=parsed(parse_size),
        metavar="RATE",
        help="Bytes per second for all that is sent, such as 10M or 1Gi.",
    ),
    click.option(
        "--upload-parallel",
        type=click.IntRange(1, MOST_LANES),
        metavar="N",
        help="Parts of checkpoints to send at once; if not given, measured while they go.",
    ),
)
