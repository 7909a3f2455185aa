"""``bundle split``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.json_events import open_watcher
from bundler.cli.options import DIRECTORY, json_option, print_json
from bundler.cli.trust_options import trust_options
from bundler.sizes import parse_size, size_text
from bundler.split import MEDIA, Cut, split_release
from bundler.trust import Trust


def _media(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    try:
        return MEDIA.get(text.lower()) or parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or one of {', '.join(MEDIA)}") from error


@click.command()
@click.argument("release", type=DIRECTORY)
@click.option(
    "--media",
    "volume_bytes",
    required=True,
    callback=_media,
    metavar="|".join((*MEDIA, "SIZE")),
    help="What a volume may have: a medium, or a size such as 23GiB.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the volumes go, if not into RELEASE; made if it is not there.",
)
@click.option("--compress", type=click.Choice(["zstd"]), help="Make the volumes smaller.")
@click.option(
    "--remove-original",
    is_flag=True,
    help="Remove each archive that was cut, after its volumes were read again and are right.",
)
@trust_options
@json_option
def command(
    release: Path,
    volume_bytes: int,
    out: Path | None,
    compress: str | None,
    remove_original: bool,
    trust: Trust,
    as_json: bool,
) -> None:
    """Cut the archives of a release into volumes that fit their media.

    Before or after it is signed: nothing that is signed changes. Archives that fit are left as
    they are. verify, inspect, extract and publish read volumes where they lie; `cat` in the order
    of their names joins them (compressed ones go through `zstd -d`). Safe to run again.
    """
    with open_watcher(as_json) as emit:
        cuts = split_release(
            release,
            volume_bytes=volume_bytes,
            out=out,
            compress=compress is not None,
            remove_original=remove_original,
            trust=trust,
            emit=emit,
        )
    if as_json:
        print_json({"archives": [_to_dict(cut) for cut in cuts]})
        return
    for cut in cuts:
        click.echo(_line(cut))


def _line(cut: Cut) -> str:
    if not cut.volumes:
        return f"{cut.archive}: {size_text(cut.size)}, fits as it is"
    there = ", there already" if cut.skipped else ""
    return (
        f"{cut.archive}: {size_text(cut.size)} in {len(cut.volumes)} volumes of "
        f"{size_text(cut.stored)} together, {cut.volumes[0]} and so on{there}"
    )


def _to_dict(cut: Cut) -> dict[str, object]:
    return {
        "archive": cut.archive,
        "size": cut.size,
        "volumes": list(cut.volumes),
        "stored": cut.stored,
        "skipped": cut.skipped,
    }
