"""``bundle lock``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from bundler.build import lock_release
from bundler.cli.cache_options import cache_options, open_cache
from bundler.cli.json_events import open_watcher
from bundler.cli.opening import load_spec
from bundler.cli.options import FILE, json_option, lock_option, print_json, print_path
from bundler.cli.tables import print_tables
from bundler.describe import Section
from bundler.digest import Digest
from bundler.errors import printable
from bundler.lock_charts import LockedThirdPartyChart, from_locked_chart
from bundler.lockfile import Lock, lock_path, write_lock
from bundler.reference import ImageTag
from bundler.sizes import count_text
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo


@click.command()
@click.argument("spec_file", type=FILE, metavar="SPEC")
@lock_option
@cache_options
@json_option
def command(
    spec_file: Path,
    lock_file: Path | None,
    cache_dir: Path | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Pin every source of a release spec to its digest.

    Writes <SPEC>.lock.json. An image is pinned to what its tag names now, a checkpoint to the
    sha256 of each file, a chart of others to every image that is found in it, which is shown.
    So is what becomes of the digest of an image that has Docker's types and is converted to OCI.
    An earlier lock is replaced.
    """
    spec = load_spec(spec_file)
    with open_watcher(as_json) as emit:
        lock = lock_release(
            spec_file,
            spec,
            images=Skopeo(),
            charts=Helm(),
            cache=open_cache(cache_dir, no_cache=no_cache, emit=emit),
            emit=emit,
        )
    path = lock_file or lock_path(spec_file)
    write_lock(path, lock)
    if as_json:
        charts = [from_locked_chart(item) for item in lock.charts]
        converted = [_from_converted(*item) for item in _converted(lock)]
        print_json({"lock": str(path), "charts": charts, "converted": converted})
        return
    print_tables((*_told(lock), *map(_found, lock.charts)))
    print_path(path)


def _converted(lock: Lock) -> list[tuple[ImageTag, Digest, Digest]]:
    """Give each image that was converted, with its digest before and after."""
    return [
        (image.tag, image.converted_from, image.digest)
        for image in lock.images
        if image.converted_from is not None
    ]


def _from_converted(tag: ImageTag, before: Digest, after: Digest) -> dict[str, object]:
    return {
        "name": tag.name,
        "tag": tag.tag,
        "convertedFrom": str(before),
        "digest": str(after),
    }


def _told(lock: Lock) -> Iterator[Section]:
    """Tell which digests nobody finds at the source, for whoever reviews the lock."""
    converted = _converted(lock)
    if converted:
        yield Section(
            title=f"{count_text(len(converted), 'image')} converted from Docker's types to OCI's",
            columns=("image", "digest at its source", "digest in the bundle"),
            rows=tuple((str(tag), str(before), str(after)) for tag, before, after in converted),
        )


def _found(chart: LockedThirdPartyChart) -> Section:
    """Tell what was found in a chart, for whoever reviews the lock."""
    rows = [
        (printable(image.reference), image.digest.id16, place)
        for image in chart.images
        for place in image.found_in
    ]
    rows += [
        (printable(item.image), "", printable(f"not an image: {item.reason}"))
        for item in chart.rules.not_images
    ]
    return Section(
        title=f"{chart.name} {chart.version}: {len(chart.images)} images",
        columns=("image", "digest", "found in"),
        rows=tuple(rows),
    )
