"""``bundle keygen``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.archive.files import atomic_write_bytes
from bundler.cli.options import NEW_PATH, json_option, passphrase_options, print_json, read_passphrase
from bundler.errors import ConflictError
from bundler.signing.keys import new_key_pair, read_public_key


@click.command()
@click.argument("path", type=NEW_PATH, metavar="NAME")
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted.")
@passphrase_options
@json_option
def command(
    path: Path,
    no_passphrase: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make a key pair that signs releases: NAME.key (private) and NAME.pub.

    The private key is an encrypted PEM file (ECDSA P-256). Give the public one, and its
    fingerprint by another way, to whoever verifies.
    """
    private, public = path.with_name(path.name + ".key"), path.with_name(path.name + ".pub")
    for file in (private, public):
        if file.exists():
            raise ConflictError(
                f"{file}: is there already", hint="choose another name; keys are never replaced"
            )
    passphrase = (
        None
        if no_passphrase
        else read_passphrase(passphrase_file, passphrase_fd, "New passphrase", confirm=True)
    )
    private_pem, public_pem = new_key_pair(passphrase)
    atomic_write_bytes(private, private_pem, mode=0o600)
    atomic_write_bytes(public, public_pem)
    fingerprint = read_public_key(public_pem, name=str(public)).spki_digest
    if as_json:
        print_json({"private": str(private), "public": str(public), "sha256": fingerprint.hex})
        return
    click.echo(f"private key  {private}")
    click.echo(f"public key   {public}")
    click.echo(f"fingerprint  {fingerprint}")
