"""``bundle fetch``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import NEW_PATH, json_option, parsed, print_json
from bundler.cli.plainly import open_lines
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.events import Emit, Noted
from bundler.fetch import Fetched, fetch_checkpoint, fetch_manifest, fetch_plain
from bundler.manifest import Checkpoint
from bundler.reference import S3Prefix
from bundler.stores.opening import open_bucket


@click.command()
@click.argument("source", metavar="SOURCE", callback=parsed(S3Prefix.parse))
@click.argument("destination", type=NEW_PATH)
@click.option(
    "--manifest",
    metavar="S3-URL",
    callback=parsed(S3Prefix.parse),
    help="The release's manifest in S3.",
)
@click.option(
    "--manifest-sha256",
    "digest",
    metavar="HEX",
    callback=parsed(Digest),
    help="What it must hash to.",
)
@click.option("--checkpoint", help="Which of the manifest's checkpoints.")
@click.option(
    "--cache",
    type=NEW_PATH,
    metavar="DIR",
    help="Directory that the pods of a node share: each checkpoint is brought there once.",
)
@json_option
def command(
    source: S3Prefix,
    destination: Path,
    manifest: S3Prefix | None,
    digest: Digest | None,
    checkpoint: str | None,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Bring a checkpoint from S3 to a directory (runs in the pod).

    SOURCE is s3://BUCKET/PREFIX. With --manifest, --manifest-sha256 and --checkpoint every part
    is verified while it is written, no file stays that fails, and what an earlier run left is gone
    on with. Without them it is a plain copy, verified by what S3 says of each object, if it says
    anything. Credentials, region and endpoint come by the environment variables that every AWS
    tool reads.
    """
    wanted = _wanted(manifest, digest, checkpoint)
    if wanted is None and cache is not None:
        raise click.UsageError("--cache needs --manifest: nothing in it could be proven")
    with open_lines() as emit:
        fetched = _fetch(source, destination, wanted, cache, emit)
    if as_json:
        print_json({"verified": wanted is not None, **_told(fetched)})


def _fetch(
    source: S3Prefix,
    destination: Path,
    wanted: Checkpoint | None,
    cache: Path | None,
    emit: Emit,
) -> Fetched:
    store = open_bucket(source.bucket, note=lambda text: emit(Noted(text)))
    if wanted is None:
        return fetch_plain(store, source, destination, emit=emit)
    return fetch_checkpoint(store, source, destination, checkpoint=wanted, cache=cache, emit=emit)


def _wanted(
    manifest: S3Prefix | None, digest: Digest | None, checkpoint: str | None
) -> Checkpoint | None:
    """Find the checkpoint in the manifest; None where none of the options was given."""
    if manifest is None and digest is None and checkpoint is None:
        return None
    if manifest is None or digest is None or checkpoint is None:
        raise click.UsageError("--manifest, --manifest-sha256 and --checkpoint go together")
    signed = fetch_manifest(open_bucket(manifest.bucket), manifest, digest)
    try:
        return signed.checkpoint(checkpoint)
    except KeyError:
        names = ", ".join(item.name for item in signed.checkpoints)
        raise MalformedError(
            f"--checkpoint {checkpoint}: the manifest has {names}",
            hint="models.KEY.checkpoint in the values names one of the release's checkpoints",
        ) from None


def _told(fetched: Fetched) -> dict[str, object]:
    return {
        "files": fetched.files,
        "bytes": fetched.size,
        "keptBytes": fetched.kept,
        "cachedBytes": fetched.cached,
        "receivedBytes": fetched.received,
        "fromCacheBy": fetched.way,
    }
