"""``bundle keygen``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import NEW_PATH, json_option, print_json, read_passphrase
from bundler.cli.signer_options import (
    identity_dict,
    identity_lines,
    openssl_line,
    passphrase_options,
)
from bundler.release_files import shown
from bundler.sign import create_keys


@click.command()
@click.argument("name", type=NEW_PATH)
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted.")
@passphrase_options
@json_option
def command(
    name: Path,
    no_passphrase: bool,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make a key pair that signs releases.

    Writes NAME.key (private) and NAME.pub. The private key is an encrypted PEM file (ECDSA
    P-256). Give the public one to whoever verifies, and its fingerprint by another way: `bundle key
    show` shows it again, and so does openssl.
    """
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    passphrase = (
        None
        if no_passphrase
        else read_passphrase(passphrase_file, passphrase_fd, "New passphrase", confirm=True)
    )
    name.parent.mkdir(parents=True, exist_ok=True)
    key = create_keys(private, public, passphrase)
    if as_json:
        print_json({"private": str(private), "public": str(public)} | identity_dict(key))
        return
    click.echo(f"private key  {shown(private)}")
    click.echo(f"public key   {shown(public)}")
    click.echo("\n".join(identity_lines(key, openssl_line(public))))
