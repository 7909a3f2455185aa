"""Trust files made by python-tuf itself, and its client: writer and reader that are not ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, Updater

from bundler.signing.keys import PrivateKey, PublicKey, new_key_pair, read_private_key

ROLES = ("root", "timestamp", "snapshot", "targets")
FAR = datetime(2090, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Person:
    """Somebody with a key: for our code, and for python-tuf's."""

    private: PrivateKey
    signer: CryptoSigner

    @property
    def public(self) -> PublicKey:
        return self.private.public

    @property
    def key8(self) -> str:
        return self.public.key8


def new_person() -> Person:
    private = read_private_key(new_key_pair(None)[0], None, name="test key")
    return Person(private, CryptoSigner(private._key))


@dataclass(frozen=True)
class Holders:
    """Who has a role, and how many must sign."""

    people: Sequence[Person]
    threshold: int


def tuf_root(
    version: int,
    holders: Holders,
    signed_by: Sequence[Person],
    *,
    releases: Holders | None = None,
    expires: datetime = FAR,
) -> Metadata[Root]:
    """Make a version; ``releases`` has the role targets where that differs from the others."""
    root = Root(version=version, expires=expires, consistent_snapshot=False)
    for role in ROLES:
        having = releases if role == "targets" and releases else holders
        for person in having.people:
            root.add_key(person.signer.public_key, role)
        root.roles[role].threshold = having.threshold
    return signed(root, signed_by)


def signed(root: Root, people: Sequence[Person]) -> Metadata[Root]:
    metadata = Metadata(root)
    for person in people:
        metadata.sign(person.signer, append=True)
    return metadata


def under_another_id(key: Key, keyid: str) -> SSlibKey:
    """List a key once more: python-tuf counts it as another."""
    return SSlibKey.from_dict(keyid, key.to_dict())


def put(directory: Path, chain: Mapping[int, bytes]) -> Path:
    """Lay versions into a release's folder for them."""
    folder = directory / "trust"
    folder.mkdir(exist_ok=True)
    for version, content in chain.items():
        (folder / f"{version}.root.json").write_bytes(content)
    return folder


class _FromDisk(FetcherInterface):
    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("file://"))
        if not path.exists():
            raise DownloadHTTPError(f"{path}: no such file", 404)
        yield path.read_bytes()


def newest_by_their_client(first: bytes, folder: Path, scratch: Path) -> tuple[bytes, bool]:
    """Have python-tuf's client follow a chain.

    Returns:
        The version that it ends with, and whether it refused one on the way.
    """
    scratch.mkdir()
    updater = Updater(
        metadata_dir=str(scratch),
        metadata_base_url=f"file://{folder}/",
        fetcher=_FromDisk(),
        bootstrap=first,
    )
    refused = False
    try:
        updater.refresh()
    except DownloadHTTPError:
        pass  # all versions were taken, and the next thing that it wants is a timestamp
    except RepositoryError:
        refused = True
    return (scratch / "root.json").read_bytes(), refused
