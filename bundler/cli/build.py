"""``bundle build``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.build import build_release
from bundler.cli.cache_options import cache_options, open_cache
from bundler.cli.json_events import open_watcher
from bundler.cli.opening import load_spec
from bundler.cli.options import (
    FILE,
    NEW_PATH,
    json_option,
    lock_option,
    print_json,
    print_path,
)
from bundler.lockfile import lock_path, read_lock
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo


@click.command()
@click.argument("spec_file", type=FILE, metavar="SPEC")
@click.option(
    "-o",
    "--output",
    "out_dir",
    type=NEW_PATH,
    required=True,
    metavar="DIR",
    help="Where the release's directory goes.",
)
@lock_option
@cache_options
@click.option("--no-sbom", is_flag=True, help="Write no SBOMs; saves reading the images again.")
@json_option
def command(
    spec_file: Path,
    out_dir: Path,
    lock_file: Path | None,
    cache_dir: Path | None,
    no_cache: bool,
    no_sbom: bool,
    as_json: bool,
) -> None:
    """Build a release: the bundle, the checkpoint archives, their manifest.

    Makes DIR/<name>-<version> of what SPEC says. Holds every source against the lock while
    reading it; writes the lock where there is none. The same lock gives the same bytes.

    What earlier builds and locks found out is kept: checkpoints that are as they were are not read
    again, and images that were looked into are not looked into again; --no-cache does all anew. The
    bundle has an SBOM of each image and of itself; with --no-sbom it has none, and so is another
    release of the same lock. With --json, events go to standard error, a JSON object a line.
    """
    spec = load_spec(spec_file)
    lock_file = lock_file or lock_path(spec_file)
    lock = read_lock(lock_file) if lock_file.exists() else None
    with open_watcher(as_json) as emit:
        built = build_release(
            spec_file,
            spec,
            lock,
            out_dir,
            images=Skopeo(),
            charts=Helm(),
            lock_file=lock_file,
            cache=open_cache(cache_dir, no_cache=no_cache, emit=emit),
            with_sboms=not no_sbom,
            emit=emit,
        )
    if as_json:
        print_json({"release": str(built.directory), "lock": str(lock_file)})
        return
    print_path(built.directory)
