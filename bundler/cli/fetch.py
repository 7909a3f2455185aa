"""``bundle fetch``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import NEW_PATH, parsed
from bundler.cli.plainly import tell_plainly
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.fetch import fetch_checkpoint, fetch_manifest, fetch_plain
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
def command(
    source: S3Prefix,
    destination: Path,
    manifest: S3Prefix | None,
    digest: Digest | None,
    checkpoint: str | None,
) -> None:
    """Bring a checkpoint from S3 to a directory (runs in the pod).

    SOURCE is s3://BUCKET/PREFIX. With --manifest, --manifest-sha256 and --checkpoint every part
    is verified while it is written, and no file stays that fails. Without them it is a plain
    copy. Credentials, region and endpoint come by the environment variables that every AWS tool
    reads.
    """
    store = open_bucket(source.bucket)
    if manifest is None and digest is None and checkpoint is None:
        fetch_plain(store, source, destination, emit=tell_plainly)
        return
    if manifest is None or digest is None or checkpoint is None:
        raise click.UsageError("--manifest, --manifest-sha256 and --checkpoint go together")
    signed = fetch_manifest(open_bucket(manifest.bucket), manifest, digest)
    try:
        wanted = signed.checkpoint(checkpoint)
    except KeyError:
        names = ", ".join(item.name for item in signed.checkpoints)
        raise MalformedError(
            f"--checkpoint {checkpoint}: the manifest has {names}",
            hint="models.KEY.checkpoint in the values names one of the release's checkpoints",
        ) from None
    fetch_checkpoint(store, source, destination, checkpoint=wanted, emit=tell_plainly)
