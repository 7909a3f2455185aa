"""``bundle lock``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.build import lock_release
from bundler.cli.cache_options import cache_options, open_cache
from bundler.cli.json_events import open_watcher
from bundler.cli.opening import load_spec
from bundler.cli.options import FILE, json_option, lock_option, print_json
from bundler.cli.tables import print_tables
from bundler.describe import Section
from bundler.errors import printable
from bundler.lock_charts import LockedThirdPartyChart, from_locked_chart
from bundler.lockfile import lock_path, write_lock
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
        print_json({"lock": str(path), "charts": [from_locked_chart(item) for item in lock.charts]})
        return
    print_tables(map(_found, lock.charts))
    click.echo(path)


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
