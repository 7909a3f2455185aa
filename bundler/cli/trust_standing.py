"""How far the signing of a trust file is, shown."""

from __future__ import annotations

import click

from bundler.describe import Section
from bundler.signing.keys import PublicKey
from bundler.signing.quorum import Tally
from bundler.trust_files import Standing

_COLUMNS = ("key", "fingerprint (sha256 of its SPKI)", "may sign releases", "has signed this file")


def tell(standing: Standing) -> None:
    """Say who signed, and how many more of whom are needed."""
    root = standing.root
    click.echo(f"{root.name}: version {root.version}: {standing.own}")
    if standing.by_before is not None:
        click.echo(f"{root.name}: by the keys of version {root.version - 1}: {standing.by_before}")
    elif root.version > 1:
        click.echo(
            f"{root.name}: version {root.version - 1} is not here, so who of its keys signed is "
            "not known: --before FILE"
        )
    if standing.is_complete is not False:
        whom = "enough" if standing.is_complete else "enough of its own keys"
        click.echo(f"{root.name}: {whom} have signed")


def section(standing: Standing) -> Section:
    """Give the keys as a table."""
    root = standing.root
    title = f"{root.name}: version {root.version}, until {root.expires}, {root.signers.threshold} "
    return Section(
        title=f"{title}of these must sign",
        columns=_COLUMNS,
        rows=tuple(
            (
                key.key8,
                key.spki_digest.hex,
                "yes" if key in root.signers.keys else "no",
                "yes" if key in _signed(standing) else "no",
            )
            for key in _all_keys(standing)
        ),
    )


def _all_keys(standing: Standing) -> list[PublicKey]:
    roots = (standing.root, standing.before) if standing.before else (standing.root,)
    keys = {key for root in roots for key in (*root.signers.keys, *root.holders.keys)}
    return sorted(keys, key=lambda key: key.spki_digest.hex)


def _signed(standing: Standing) -> set[PublicKey]:
    tallies = (standing.own, standing.by_before)
    return {key for tally in tallies if tally is not None for key in tally.signed}


def to_dict(standing: Standing) -> dict[str, object]:
    """Give it for machines."""
    root, before = standing.root, standing.by_before
    return {
        "version": root.version,
        "expires": root.expires,
        "threshold": root.signers.threshold,
        "keys": [
            {"key8": key.key8, "spkiSha256": key.spki_digest.hex} for key in root.signers.keys
        ],
        "signatures": _tally_to_dict(standing.own),
        "signaturesByVersionBefore": _tally_to_dict(before) if before is not None else None,
        "complete": standing.is_complete,
    }


def _tally_to_dict(tally: Tally) -> dict[str, object]:
    return {
        "threshold": tally.threshold,
        "signed": [key.key8 for key in tally.signed],
        "unsigned": [key.key8 for key in tally.unsigned],
        "missing": tally.missing,
    }
