"""Options that name a signing key and what opens it, and a public key shown for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import click

from bundler.cli.options import DESCRIPTOR, FILE, read_passphrase
from bundler.errors import printable
from bundler.signing.key_uri import FileKey, KeyUri, read_key_uri
from bundler.signing.keys import PublicKey
from bundler.signing.signers import Signer, open_signer

F = TypeVar("F", bound=Callable[..., Any])
_GROUP_DIGITS, _GROUPS_A_LINE = 4, 8


def key_uri(_ctx: click.Context, _param: click.Parameter, text: str) -> KeyUri:
    """Read what names a key; a file must be there."""
    try:
        key = read_key_uri(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if isinstance(key, FileKey) and not key.path.exists():
        raise click.BadParameter(f"File {text!r} does not exist.")
    return key


def passphrase_options(command: F) -> F:
    """Add the ways to hand over a passphrase: none of them puts it on the command line."""
    return _secret_options(command, ("passphrase",), "the passphrase")


def secret_options(command: F) -> F:
    """Add the ways to open a signing key, wherever it is kept."""
    module = click.option(
        "--pkcs11-module",
        type=FILE,
        help="Library of the token's maker, for hsm: keys; or PYKCS11LIB.",
    )
    return _secret_options(module(command), ("passphrase", "pin"), "the key's passphrase or PIN")


def _secret_options(command: F, words: Sequence[str], what: str) -> F:
    for name, kind, metavar, where in (
        ("fd", DESCRIPTOR, "N", "descriptor N"),
        ("file", FILE, "FILE", "the first line of a file"),
    ):
        command = click.option(
            *(f"--{word}-{name}" for word in words),
            f"passphrase_{name}",
            type=kind,
            metavar=metavar,
            help=f"Read {what} from {where}.",
        )(command)
    return command


def signer_options(command: F) -> F:
    """Add ``--key`` and what opens it; ``open_signing_key`` takes their values."""
    return click.option(
        "--key",
        "key",
        required=True,
        callback=key_uri,
        metavar="URI",
        help="Private key: a PEM file, awskms:KEY, or hsm:[ID][?label=TOKEN].",
    )(secret_options(command))


def open_signing_key(
    key: KeyUri,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    pkcs11_module: Path | None,
) -> Signer:
    """Find the key; a person is asked for its passphrase or PIN where no option says it."""
    options = "--passphrase-file or --pin-file"
    secret = partial(read_passphrase, passphrase_file, passphrase_fd, options=options)
    return open_signer(key, secret=secret, pkcs11_module=pkcs11_module)


def identity_lines(key: PublicKey, check: str) -> list[str]:
    """Show who a key is, as people compare it: by eye or over the phone.

    Args:
        key: Which.
        check: The command that shows the same number without this one.
    """
    digits = key.spki_digest.hex
    groups = [digits[at : at + _GROUP_DIGITS] for at in range(0, len(digits), _GROUP_DIGITS)]
    rows = [groups[at : at + _GROUPS_A_LINE] for at in range(0, len(groups), _GROUPS_A_LINE)]
    first, *others = [" ".join(row) for row in rows]
    return [
        f"fingerprint  {first}",
        *(f"             {row}" for row in others),
        f"key8         {key.key8}",
        "curve        P-256",
        f"check with   {printable(check)}",
    ]


def identity_dict(key: PublicKey) -> dict[str, str]:
    """Give who a key is for machines."""
    return {
        "spkiSha256": key.spki_digest.hex,
        "key8": key.key8,
        "curve": "P-256",
        "pem": key.pem.decode(),
    }


def openssl_line(file: Path, *, private: bool = False) -> str:
    """Give the command that shows the fingerprint of a key's file without this program."""
    arguments = f"-in {quote(str(file))} -pubout" if private else f"-pubin -in {quote(str(file))}"
    return f"openssl pkey {arguments} -outform DER | sha256sum"
