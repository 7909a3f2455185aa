"""The releases that lie at a destination, judged by whom a person trusts."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.archive.volumes import Place
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.publish.inventory import Held
from bundler.release import TrustedRelease, open_release
from bundler.release_files import ReleaseFiles
from bundler.stores.base import ObjectStore
from bundler.trust import Trust


@dataclass(frozen=True, slots=True)
class PublishedFiles(ReleaseFiles):
    """What publish left of a release beside its checkpoints: its small files, and no archive.

    Attributes:
        store: The bucket.
        held: What lies there of the release.
    """

    store: ObjectStore
    held: Held

    def shown(self, name: str = "") -> str:
        """Give the address."""
        return printable(f"{self.held.place}/{name}")

    def names(self) -> list[str]:
        """Name what lies directly below the release's prefix."""
        return sorted({path.partition("/")[0] for path in self.held.objects})

    def has(self, name: str) -> bool:
        """Say whether there is such an object, or something below it."""
        return name in self.names()

    def read(self, name: str, *, limit: int) -> bytes:
        """Download an object."""
        return self.store.get(self.held.place.key(name), limit=limit)

    def inside(self, name: str) -> ReleaseFiles | None:
        """Give what lies below the release's prefix under that name."""
        start = f"{name}/"
        below = {
            path.removeprefix(start): item
            for path, item in self.held.objects.items()
            if path.startswith(start)
        }
        held = Held(place=self.held.place / name, objects=below)
        return PublishedFiles(self.store, held) if below else None

    def place(self, archive: str, size: int, digest: Digest) -> Place | None:
        """Say that there is no archive: publish leaves none."""
        return None

    @property
    def searched(self) -> str:
        """Name the prefix."""
        return self.shown()


def read_published(store: ObjectStore, held: Held, trust: Trust) -> TrustedRelease:
    """Verify and read a release by the small files that publish left beside its checkpoints.

    Raises:
        UntrustedError: No key was given, or none of them signed it.
        ContentError: Its files disagree, or it is another release than its place says.
        MalformedError: A file breaks its grammar.
        NotFoundError: A file is not there.
    """
    release = open_release(PublishedFiles(store, held), trust)
    name, got = held.place.prefix.rpartition("/")[2], release.manifest.release.directory
    if got != name:
        raise ContentError(
            f"{held.place}: expected the release {name}, got {got}",
            hint="somebody copied it there; publish writes each release below its own name",
        )
    return release
