"""``bundle sign``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import (
    DIRECTORY,
    FILE,
    json_option,
    passphrase_options,
    print_json,
    read_given,
    read_passphrase,
)
from bundler.sign import sign_release
from bundler.signing.keys import MAX_KEY_BYTES, needs_passphrase, read_private_key


@click.command()
@click.argument("release", type=DIRECTORY, metavar="RELEASE")
@click.option("--key", "key_file", type=FILE, required=True, help="Private key (PEM).")
@passphrase_options
@json_option
def command(
    release: Path,
    key_file: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Sign a release.

    Adds SHA256SUMS.<key8>.sig to RELEASE and changes nothing else. Needs SHA256SUMS and
    MANIFEST.json only, and checks them against each other first.
    """
    pem = read_given(key_file, limit=MAX_KEY_BYTES)
    passphrase = None
    if needs_passphrase(pem):
        passphrase = read_passphrase(passphrase_file, passphrase_fd, f"Passphrase of {key_file}")
    signature = sign_release(release, read_private_key(pem, passphrase, name=str(key_file)))
    if as_json:
        print_json({"signature": str(signature)})
        return
    click.echo(signature)
