"""``bundle key``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.archive.files import read_given
from bundler.cli.options import json_option, print_json, read_passphrase
from bundler.cli.signer_options import (
    identity_dict,
    identity_lines,
    key_uri,
    open_signing_key,
    openssl_line,
    secret_options,
)
from bundler.errors import printable
from bundler.signing.key_uri import FileKey, KeyUri
from bundler.signing.keys import (
    MAX_KEY_BYTES,
    PublicKey,
    is_private,
    needs_passphrase,
    read_private_key,
    read_public_key,
)


@click.group()
def command() -> None:
    """Show who a key is."""


@command.command()
@click.argument("key", callback=key_uri, metavar="KEY")
@secret_options
@click.option("--pem", is_flag=True, help="Print the public key in PEM, and nothing else.")
@json_option
def show(
    key: KeyUri,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    pkcs11_module: Path | None,
    pem: bool,
    as_json: bool,
) -> None:
    """Show a key's fingerprint, to compare by eye or over the phone.

    KEY is a public or private PEM file, awskms:KEY or hsm:[ID][?label=TOKEN]. The fingerprint is
    the sha256 of the public key (SubjectPublicKeyInfo, DER); openssl shows the same one.
    """
    if pem and as_json:
        raise click.UsageError("--pem and --json exclude each other")
    if isinstance(key, FileKey):
        public, check = _read_file(key.path, passphrase_file, passphrase_fd)
    else:
        public = open_signing_key(key, passphrase_file, passphrase_fd, pkcs11_module).public
        check = openssl_line(Path("FILE.pub"))
    if as_json:
        print_json(identity_dict(public) | {"key": str(key)})
    elif pem:
        click.echo(public.pem, nl=False)
    else:
        click.echo("\n".join(identity_lines(public, check)))


def _read_file(
    path: Path, passphrase_file: Path | None, passphrase_fd: int | None
) -> tuple[PublicKey, str]:
    """Read either half of a key, from a file that may be a pipe; and how openssl reads it."""
    pem, name = read_given(path, limit=MAX_KEY_BYTES), printable(str(path))
    if not is_private(pem):
        return read_public_key(pem, name=name), openssl_line(path)
    passphrase = None
    if needs_passphrase(pem):
        passphrase = read_passphrase(passphrase_file, passphrase_fd, f"Passphrase of {path}")
    public = read_private_key(pem, passphrase, name=name).public
    return public, openssl_line(path, private=True)
