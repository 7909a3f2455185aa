"""In which order blobs and manifests go to a registry. Pure: decides from what was found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.archive.image_tree import ImageTree
from bundler.digest import Digest
from bundler.manifest import Blob, Image
from bundler.reference import ImageTag


@dataclass(frozen=True, slots=True)
class Place:
    """A manifest or a blob in one repository."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Cargo:
    """An image, and what its archive holds."""

    image: Image
    tree: ImageTree

    @property
    def repository(self) -> str:
        """Where it goes, below the registry's path."""
        return self.image.tag.name

    @property
    def blob_places(self) -> tuple[tuple[Place, Blob], ...]:
        """Every config and layer with its place, the largest first."""
        return tuple((Place(self.repository, blob.digest), blob) for blob in self.tree.blobs)

    @property
    def manifest_places(self) -> tuple[Place, ...]:
        """The place of every manifest, children before parents."""
        return tuple(Place(self.repository, item.digest) for item in self.tree.manifests)

    @property
    def size(self) -> int:
        """Bytes of all configs and layers."""
        return sum(blob.size for blob in self.tree.blobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a registry has of some images.

    Attributes:
        tags: What each tag names; those that are not there are left out.
        manifests: Every manifest that was found, its bytes hashed.
        sizes: Every blob that was found, with the size that the registry says.
    """

    tags: Mapping[ImageTag, Digest] = field(default_factory=dict)
    manifests: frozenset[Place] = frozenset()
    sizes: Mapping[Place, int] = field(default_factory=dict)

    def is_whole(self, cargo: Cargo) -> bool:
        """Say whether an image is there under its tag, with all that it names."""
        return self.tags.get(cargo.image.tag) == cargo.image.digest and self.has_all(cargo)

    def has_all(self, cargo: Cargo) -> bool:
        """Say whether all manifests and blobs of an image are there; of tags it says nothing."""
        blobs = all(place in self.sizes for place, _ in cargo.blob_places)
        return blobs and self.manifests.issuperset(cargo.manifest_places)

    def wrong_sizes(self, cargo: Cargo) -> list[str]:
        """Tell, in words, of each blob of an image that is there with another size."""
        return [
            f"{place.repository}: blob {blob.digest}: expected {blob.size} bytes at the registry, "
            f"got {self.sizes[place]}"
            for place, blob in cargo.blob_places
            if self.sizes.get(place, blob.size) != blob.size
        ]


NOTHING_KNOWN = Survey()


@dataclass(frozen=True, slots=True)
class Transfer:
    """A blob that a repository lacks.

    Attributes:
        image: For whose sake, and from whose archive; its repository is where it goes.
        blob: What.
        source: Another repository to mount it from; None where its bytes have to be sent.
    """

    image: Image
    blob: Blob
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Wave:
    """Transfers that may go on side by side, and the images that are whole after them."""

    transfers: tuple[Transfer, ...]
    whole: tuple[Cargo, ...]


def schedule(
    cargo: Sequence[Cargo], found: Survey, present: Iterable[Image] = ()
) -> tuple[Wave, ...]:
    """Say what has to be done, wave after wave, until the manifests of all images are stored.

    The bytes of each blob are sent once, in the first wave, to the first repository that wants
    them: its home. The others mount it from there in a later wave, when a manifest names it at
    home: Amazon ECR mounts nothing else. What a wave transfers begins with the largest, so that
    no large blob is left for the end.

    Args:
        cargo: The images to bring, in the manifest's order.
        found: What the registry has of them.
        present: Images that are whole at the registry: their blobs can be mounted at once.

    Source:
        Amazon ECR user guide, "Blob mounting in Amazon ECR".
    """
    homes: dict[Digest, tuple[str, int]] = {}  # repository, and the wave that can mount from it
    for image in present:
        for blob in image.blobs:
            homes.setdefault(blob.digest, (image.tag.name, 0))
    strays = {place.digest: (place.repository, 0) for place in found.sizes}
    arrivals = dict.fromkeys(found.sizes, 0)
    transfers: dict[int, list[Transfer]] = {}
    whole: dict[int, list[Cargo]] = {}
    for item in cargo:
        last = 0
        for place, blob in item.blob_places:
            if place not in arrivals:
                source, wave = homes.get(blob.digest) or strays.get(blob.digest) or (None, 0)
                source = None if source == place.repository else source
                arrivals[place] = wave if source else 0
                transfer = Transfer(item.image, blob, source)
                transfers.setdefault(arrivals[place], []).append(transfer)
            last = max(last, arrivals[place])
        whole.setdefault(last, []).append(item)
        for blob in item.tree.blobs:
            homes.setdefault(blob.digest, (item.repository, last + 1))
    return tuple(
        Wave(_largest_first(transfers.get(n, [])), tuple(whole.get(n, [])))
        for n in range(max(whole, default=-1) + 1)
    )


def bytes_to_send(waves: Iterable[Wave]) -> dict[ImageTag, int]:
    """Sum up, for each image, what cannot be mounted."""
    return _total(item for wave in waves for item in wave.transfers if item.source is None)


def bytes_to_mount(waves: Iterable[Wave]) -> dict[ImageTag, int]:
    """Sum up, for each image, what another repository has, or gets first."""
    return _total(item for wave in waves for item in wave.transfers if item.source is not None)


def _total(transfers: Iterable[Transfer]) -> dict[ImageTag, int]:
    total: dict[ImageTag, int] = {}
    for transfer in transfers:
        tag = transfer.image.tag
        total[tag] = total.get(tag, 0) + transfer.blob.size
    return total


def tag_order(cargo: Iterable[Cargo]) -> tuple[Cargo, ...]:
    """Put images before the signatures and other artifacts that are about them."""
    ordered: list[Cargo] = []
    waiting = list(cargo)
    while waiting:
        missing = {manifest.digest for item in waiting for manifest in item.tree.manifests}
        ready = [item for item in waiting if item.image.subject not in missing] or waiting
        ordered += ready
        waiting = [item for item in waiting if item not in ready]
    return tuple(ordered)


def _largest_first(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    return tuple(sorted(transfers, key=lambda item: -item.blob.size))
