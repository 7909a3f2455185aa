"""``bundle trust``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.cli.opening import utc_now
from bundler.cli.options import (
    DIRECTORY,
    FILE,
    NEW_PATH,
    json_option,
    parsed,
    print_json,
    print_path,
)
from bundler.cli.signer_options import open_signing_key, signer_options
from bundler.cli.source_options import path_or_bucket, source_options
from bundler.cli.tables import print_tables
from bundler.cli.trust_options import read_keys
from bundler.cli.trust_standing import section, tell, to_dict
from bundler.document import utc_time
from bundler.errors import UntrustedError, printable
from bundler.release_files import ReleaseFiles, files_at
from bundler.signing.key_uri import KeyUri
from bundler.signing.keys import PublicKey
from bundler.signing.tuf_roots import Root
from bundler.trust_files import (
    add_key,
    attach_roots,
    create_root,
    next_root,
    read_standing,
    remove_key,
    sign_root,
    update_root,
)

F = TypeVar("F", bound=Callable[..., Any])
_MAX_DAYS = 36_500
_HELP = """Keep the file that says whose signatures count.

A trust file is a TUF root: which keys sign releases, how many must have signed, and until
when. The vendor's people make and sign it; an operator gives it to --trust instead of keys. A
change is a new version, signed by enough keys of the version before and of its own: whoever
has any version can prove the newest without asking anybody.

\b
begin      init -o trust/1.root.json --key a.pub --key b.pub --key c.pub
                --threshold 2 --expires 540
           sign trust/1.root.json --key a.key     one after another, on any machine
           show trust/1.root.json                 who is missing
change     rotate trust/1.root.json --expires 540     writes trust/2.root.json
           add-key, remove-key trust/2.root.json      until somebody signed it
           sign trust/2.root.json --key b.key
ship       attach trust/2.root.json RELEASE           all versions, beside what is signed
operator   verify RELEASE --trust vendor.root.json    goes on to what RELEASE brings
           update vendor.root.json RELEASE            keeps it
"""


def _expiry(text: str) -> str:
    """Read a day, a time in UTC seconds, or a number of days from now."""
    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= _MAX_DAYS:
            raise ValueError(f"expected 1 to {_MAX_DAYS} days, got {text}")
        end = datetime.now(UTC) + timedelta(days=int(text))
        return end.strftime("%Y-%m-%dT%H:%M:%SZ")
    time = utc_time(text if "T" in text else f"{text}T00:00:00Z")
    if time <= utc_now():
        raise ValueError(f"expected a time to come, got {time}")
    return time


_file_argument = click.argument("file", type=FILE)
_keys_option = click.option(
    "--key", "key_files", type=FILE, multiple=True, required=True, metavar="PUB", help="Public key."
)
_key_option = click.option(
    "--key", "key_file", type=FILE, required=True, metavar="PUB", help="Its public half (PEM)."
)
_threshold_option = click.option(
    "--threshold",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of the keys must sign from now on; as it was if not given.",
)
_before_option = click.option(
    "--before",
    type=FILE,
    metavar="FILE",
    help="The version before, if it does not lie beside FILE as <n>.root.json.",
)
_expires_option = click.option(
    "--expires",
    required=True,
    callback=parsed(_expiry),
    metavar="DATE|DAYS",
    help="From when on it is refused: a day (2028-05-01, UTC), or how many days from now.",
)


@click.group(help=_HELP)
def command() -> None:
    """Keep the file that says whose signatures count."""


@command.command()
@click.option("-o", "--out", type=NEW_PATH, required=True, metavar="FILE", help="Where it goes.")
@_keys_option
@click.option(
    "--threshold", type=click.IntRange(min=1), required=True, help="How many of them must sign."
)
@_expires_option
def init(out: Path, key_files: tuple[Path, ...], threshold: int, expires: str) -> None:
    """Write version 1, for its keys to sign."""
    _written(create_root(out, read_keys(key_files), threshold, expires))


@command.command()
@_file_argument
@click.option(
    "-o", "--out", type=NEW_PATH, metavar="NEW", help="Where it goes, if not beside FILE."
)
@_expires_option
@_threshold_option
def rotate(file: Path, out: Path | None, expires: str, threshold: int | None) -> None:
    """Write the version after FILE: the same keys, another expiry.

    Keys are added to it and removed from it before anybody signs it.
    """
    _written(next_root(file, out, expires, threshold))


@command.command("add-key")
@_file_argument
@_key_option
@_threshold_option
def add(file: Path, key_file: Path, threshold: int | None) -> None:
    """Add a key to a version that nobody signed yet."""
    _written(add_key(file, _key(key_file), threshold))


@command.command("remove-key")
@_file_argument
@_key_option
@_threshold_option
def remove(file: Path, key_file: Path, threshold: int | None) -> None:
    """Remove a key from a version that nobody signed yet."""
    _written(remove_key(file, _key(key_file), threshold))


@command.command()
@_file_argument
@signer_options
@_before_option
def sign(
    file: Path,
    key: KeyUri,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    pkcs11_module: Path | None,
    before: Path | None,
) -> None:
    """Add a signature to FILE, and to nothing else.

    The key is one of this version, or of the one before it: also one that this version removes.
    """
    read_standing(file, before)  # what is wrong with the file is told before a secret is asked for
    signer = open_signing_key(key, passphrase_file, passphrase_fd, pkcs11_module)
    tell(sign_root(file, signer, before))


@command.command()
@_file_argument
@_before_option
@json_option
def show(file: Path, before: Path | None, as_json: bool) -> None:
    """Show what a version says, who signed it, and who is missing.

    Ends with 4 where signatures are missing, as far as can be told: those by the keys of the
    version before count where that one is here.
    """
    standing = read_standing(file, before)
    if as_json:
        print_json(to_dict(standing))
    else:
        print_tables([section(standing)])
        tell(standing)
    if standing.is_complete is False:
        click.get_current_context().exit(UntrustedError.exit_status)


@command.command()
@_file_argument
@click.argument("release", type=DIRECTORY)
def attach(file: Path, release: Path) -> None:
    """Put FILE, and all versions before it, into RELEASE as trust/<n>.root.json.

    They lie beside FILE as <n>.root.json. Nothing that is signed changes, so it may be done before
    or after RELEASE is signed.
    """
    for path in attach_roots(file, release):
        print_path(path)


@command.command()
@_file_argument
@click.argument("release", callback=path_or_bucket(DIRECTORY))
@source_options("release")
def update(file: Path, release: Path | ReleaseFiles) -> None:
    """Replace FILE by the newest version that RELEASE brings.

    Each version on the way must be signed by enough keys of the one before it.
    """
    given, now = update_root(file, files_at(release), now=utc_now())
    if now.version == given.version:
        click.echo(f"{printable(str(file))}: version {given.version}; the release brings no newer")
        return
    click.echo(f"{printable(str(file))}: version {given.version} replaced by {now.version}")
    for mark, keys in (("added", _new(given, now)), ("removed", _new(now, given))):
        for key in keys:
            click.echo(f"{mark:8} {key.key8}  {key.spki_digest.hex}")


def _key(file: Path) -> PublicKey:
    return read_keys([file])[0]


def _new(old: Root, new: Root) -> list[PublicKey]:
    return [key for key in new.signers.keys if key not in old.signers.keys]


def _written(root: Root) -> None:
    click.echo(root.name)
    click.echo(
        f"version {root.version}, until {root.expires}, {_quorum_text(root)}; to be signed: "
        f"bundle trust sign {root.name} --key KEY",
        err=True,
    )


def _quorum_text(root: Root) -> str:
    keys = ", ".join(key.key8 for key in root.signers.keys)
    return f"{root.signers.threshold} of {keys}"
