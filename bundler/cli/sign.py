"""``bundle sign``."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import DIRECTORY, json_option, print_json, print_path, volumes_option
from bundler.cli.signer_options import open_signing_key, signer_options
from bundler.events import Noted
from bundler.sign import UnsignedRelease, add_signatures, read_unsigned
from bundler.signing.key_uri import KeyUri


@click.command()
@click.argument("release", type=DIRECTORY, metavar="RELEASE")
@signer_options
@click.option("--content", is_flag=True, help="Read every archive first, and compare all of it.")
@volumes_option
@json_option
def command(
    release: Path,
    key: KeyUri,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    pkcs11_module: Path | None,
    content: bool,
    volumes: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Sign a release.

    Adds files to RELEASE and changes none: SHA256SUMS.<key8>.sig, which is what counts, and for
    other people's tools a Sigstore bundle, a provenance and a signature of each model. Needs
    SHA256SUMS and MANIFEST.json only, and checks them against each other first.

    The key is a PEM file, awskms:KEY (an id, an ARN or alias/NAME; only a digest is sent), or
    hsm:[ID][?label=TOKEN] (PKCS#11). A passphrase or PIN comes from a terminal, a file or a
    descriptor; a PIN is tried once.
    """
    if volumes and not content:
        raise click.UsageError("--volumes goes with --content")
    unsigned = read_unsigned(release)
    if content:
        _require_content(unsigned, volumes, as_json=as_json)
    signer = open_signing_key(key, passphrase_file, passphrase_fd, pkcs11_module)
    *others, signature = add_signatures(unsigned, signer)
    if as_json:
        print_json(
            {
                "signature": str(signature),
                "files": [str(path) for path in (*others, signature)],
                "key8": signer.public.key8,
                "spkiSha256": signer.public.spki_digest.hex,
            }
        )
        return
    print_path(signature)


def _require_content(
    unsigned: UnsignedRelease, volumes: tuple[Path, ...], *, as_json: bool
) -> None:
    from bundler.cli.json_events import open_watcher
    from bundler.verify import verify_unsigned

    with open_watcher(as_json) as emit:
        report = verify_unsigned(
            unsigned.directory, unsigned.manifest, elsewhere=volumes, emit=emit
        )
        for note in report.notes:
            emit(Noted(note))
    report.raise_for_faults()
