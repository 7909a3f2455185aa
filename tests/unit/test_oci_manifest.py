"""What is reached from a manifest or index: each read once, and only so much."""

from __future__ import annotations

import json

import pytest

from bundler import oci_manifest
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import MalformedError
from bundler.jsontext import read_json
from bundler.oci_manifest import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, Tree, read_tree


class Blobs:
    """Manifests by their digests, and which of them were read."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}
        self.reads: list[Digest] = []

    def add(self, value: dict[str, object]) -> Digest:
        content = json.dumps(value).encode()
        self.contents[Digest.of(content)] = content
        return Digest.of(content)

    def image(self, *layers: str) -> Digest:
        named = [{"digest": str(Digest.of(text.encode())), "size": len(text)} for text in layers]
        return self.add({"layers": named[1:], "config": named[0]})

    def index(self, *children: Digest) -> Digest:
        return self.add({"manifests": [{"digest": str(child)} for child in children]})

    def tree(self, top: Digest) -> Tree:
        def read(digest: Digest) -> bytes:
            self.reads.append(digest)
            return self.contents[digest]

        return read_tree(self.contents[top], read, parse)


def parse(content: bytes) -> Table:
    return read_json(content, name="it", limit=1 << 20).table()


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def test_manifests_and_blobs_are_told_apart_and_read_once(blobs: Blobs) -> None:
    one, two = blobs.image("c", "shared"), blobs.image("d", "shared")
    inner = blobs.index(two, one)
    top = blobs.index(one, one, inner)
    tree = blobs.tree(top)
    assert list(tree.manifests) == [top, one, inner, two]
    assert sorted(blobs.reads) == sorted([one, inner, two])
    assert tree.blobs == {Digest.of(text.encode()): len(text) for text in ("c", "d", "shared")}
    assert sum(tree.sizes.values()) == 8 + sum(map(len, blobs.contents.values()))


def test_a_manifest_that_is_a_layer_too_is_a_manifest(blobs: Blobs) -> None:
    image = blobs.image("c")
    size = len(blobs.contents[image])
    layer = {"digest": str(image), "size": size}
    other = blobs.add({"layers": [layer]})
    tree = blobs.tree(blobs.index(image, other))
    assert image not in tree.blobs
    assert tree.sizes[image] == size


@pytest.mark.parametrize(
    "value",
    [
        {"manifests": [], "layers": []},
        {"manifests": [], "config": {}},
        {"manifests": [], "mediaType": OCI_MANIFEST},
        {"layers": [], "mediaType": OCI_INDEX},
        {"layers": [], "mediaType": DOCKER_INDEX},
    ],
)
def test_what_is_an_index_to_one_and_a_manifest_to_another_is_refused(
    blobs: Blobs, value: dict[str, object]
) -> None:
    with pytest.raises(MalformedError, match=r"^it: (layers|mediaType): "):
        blobs.tree(blobs.index(blobs.add(value)))


def test_indexes_three_deep_are_too_deep(blobs: Blobs) -> None:
    inner = blobs.index(blobs.index(blobs.image("c")))
    assert len(blobs.tree(inner).manifests) == 3
    with pytest.raises(MalformedError, match="nested more than 3 deep"):
        blobs.tree(blobs.index(inner))


def test_what_names_too_many_blobs_is_refused(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oci_manifest, "MAX_BLOBS", 4)
    blobs.tree(blobs.image("c", "1", "2"))
    with pytest.raises(MalformedError, match="more than 4 blobs"):
        blobs.tree(blobs.image("c", "1", "2", "3"))


def test_nothing_is_read_of_an_index_with_too_many_manifests(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oci_manifest, "MAX_BLOBS", 4)
    children = [blobs.image(str(n)) for n in range(4)]
    with pytest.raises(MalformedError, match="more than 4 blobs"):
        blobs.tree(blobs.index(*children))
    assert blobs.reads == []


def test_manifests_of_too_many_bytes_are_refused(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = blobs.index(*(blobs.image(str(n)) for n in range(5)))
    total = sum(map(len, blobs.contents.values()))
    monkeypatch.setattr(oci_manifest, "MAX_TREE_BYTES", total)
    blobs.tree(top)
    monkeypatch.setattr(oci_manifest, "MAX_TREE_BYTES", total - 1)
    with pytest.raises(MalformedError, match=f"more than {total - 1} bytes of manifests"):
        blobs.tree(top)
