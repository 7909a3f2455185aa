"""What goes to a registry in which order: decided without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.archive.image_tree import ImageTree, TreeManifest
from bundler.digest import Digest
from bundler.manifest import Blob, Image
from bundler.publish.push_progress import PushProgress, Sent
from bundler.publish.schedule import (
    Cargo,
    Place,
    Survey,
    Transfer,
    Wave,
    bytes_to_send,
    schedule,
    tag_order,
)
from bundler.reference import ImageTag


def blob(number: int) -> Blob:
    return Blob(digest=Digest.of(b"blob %d" % number), size=number)


def cargo(tag: str, *blobs: int, subject: Digest | None = None) -> Cargo:
    """Give an image of blobs with these sizes; the same size is the same blob."""
    parsed = ImageTag(*tag.split(":"))
    content = tag.encode()
    manifest = TreeManifest(
        digest=Digest.of(content),
        media_type="application/vnd.oci.image.manifest.v1+json",
        content=content,
        blobs=tuple(map(blob, blobs)),
    )
    held = [*map(blob, blobs), Blob(digest=manifest.digest, size=len(content))]
    image = Image(
        tag=parsed,
        digest=manifest.digest,
        source=f"docker://example.com/{tag}",
        source_digest=manifest.digest,
        platforms=() if subject else ("linux/amd64",),
        blobs=tuple(sorted(held, key=lambda each: each.digest)),
        subject=subject,
    )
    return Cargo(image, ImageTree((manifest,)))


NOTHING = Survey()
Told = list[tuple[str, int, str | None]]


def told(transfers: Iterable[Transfer]) -> Told:
    return [(each.image.tag.name, each.blob.size, each.source) for each in transfers]


def names(wave: Wave) -> list[str]:
    return [item.image.tag.name for item in wave.whole]


def test_a_shared_blob_goes_to_its_first_image_and_is_mounted_by_the_next() -> None:
    first, second = schedule([cargo("one:1", 5, 9), cargo("two:1", 7, 9)], NOTHING)
    assert told(first.transfers) == [("one", 9, None), ("two", 7, None), ("one", 5, None)]
    assert names(first) == ["one"]
    assert told(second.transfers) == [("two", 9, "one")]
    assert names(second) == ["two"]


def test_nothing_is_mounted_from_a_repository_before_a_manifest_names_it_there() -> None:
    waves = schedule([cargo("one:1", 5), cargo("two:1", 5, 6), cargo("six:1", 6)], NOTHING)
    assert [names(wave) for wave in waves] == [["one"], ["two"], ["six"]]
    assert [told(wave.transfers) for wave in waves] == [
        [("two", 6, None), ("one", 5, None)],
        [("two", 5, "one")],
        [("six", 6, "two")],
    ]


def test_what_is_there_is_not_sent_and_what_is_elsewhere_is_mounted() -> None:
    items = [cargo("one:1", 5, 9), cargo("two:1", 7, 9)]
    there = {Place("one", blob(5).digest): 5, Place("two", blob(9).digest): 9}
    [wave] = schedule(items, Survey(sizes=there))
    assert told(wave.transfers) == [("one", 9, "two"), ("two", 7, None)]
    assert names(wave) == ["one", "two"]


def test_images_that_are_whole_are_mounted_from_at_once() -> None:
    [wave] = schedule([cargo("two:1", 9)], NOTHING, present=[cargo("one:1", 9).image])
    assert told(wave.transfers) == [("two", 9, "one")]


def test_two_images_of_one_repository_need_a_blob_once() -> None:
    signature = cargo("one:sha256-x.sig", 3, 9, subject=Digest.of(b"one:1"))
    [wave] = schedule([cargo("one:1", 9), signature], NOTHING)
    assert told(wave.transfers) == [("one", 9, None), ("one", 3, None)]


def test_bytes_to_send_leave_out_what_is_mounted() -> None:
    waves = schedule([cargo("one:1", 5, 9), cargo("two:1", 7, 9)], NOTHING)
    assert bytes_to_send(waves) == {ImageTag("one", "1"): 14, ImageTag("two", "1"): 7}
    assert bytes_to_send([]) == {}
    assert schedule([], NOTHING) == ()


_IMAGES = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.integers(1, 6), min_size=1)), min_size=1, max_size=6
)


@given(images=_IMAGES, there=st.sets(st.tuples(st.integers(0, 3), st.integers(1, 6))))
def test_after_all_waves_every_place_has_every_blob_and_each_was_sent_once(
    images: list[tuple[int, set[int]]], there: set[tuple[int, int]]
) -> None:
    items = [cargo(f"repo{repo}:{n}", *blobs) for n, (repo, blobs) in enumerate(images)]
    found = Survey(sizes={Place(f"repo{repo}", blob(n).digest): n for repo, n in there})
    filled, named = set(found.sizes), set[Place]()
    sent: list[Digest] = []
    for wave in schedule(items, found):
        for transfer in wave.transfers:
            place = Place(transfer.image.tag.name, transfer.blob.digest)
            assert place not in filled
            if transfer.source is None:
                sent.append(place.digest)
            else:
                home = Place(transfer.source, place.digest)
                assert home in named or home in found.sizes
            assert transfer.blob in transfer.image.blobs
        filled |= {Place(each.image.tag.name, each.blob.digest) for each in wave.transfers}
        for item in wave.whole:
            assert filled.issuperset(place for place, _ in item.blob_places)
            named |= {place for place, _ in item.blob_places}
    assert len(sent) == len(set(sent))
    assert not set(sent) & {place.digest for place in found.sizes}
    assert sorted(n.image.tag.tag for w in schedule(items, found) for n in w.whole) == sorted(
        item.image.tag.tag for item in items
    )


def test_an_image_is_tagged_before_the_signatures_about_it() -> None:
    image = cargo("one:1", 9)
    signature = cargo("one:sha256-a.sig", 3, subject=image.image.digest)
    about_it = cargo("one:sha256-b.sig", 4, subject=signature.image.digest)
    other = cargo("two:1", 5)
    assert tag_order([about_it, signature, other, image]) == (other, image, signature, about_it)


def test_images_about_each_other_are_tagged_all_the_same() -> None:
    first = cargo("one:a", 1, subject=Digest.of(b"one:b"))
    second = cargo("one:b", 2, subject=first.image.digest)
    assert tag_order([first, second]) == (first, second)


@pytest.mark.parametrize(
    ("sizes", "whole", "wrong"),
    [
        ({5: 5, 9: 9}, True, []),
        ({5: 5}, False, []),
        ({5: 5, 9: 8}, True, [f"one: blob {blob(9).digest}: expected 9 bytes"]),
    ],
)
def test_a_survey_knows_what_is_whole_and_what_is_wrong(
    sizes: dict[int, int], whole: bool, wrong: list[str]
) -> None:
    item = cargo("one:1", 5, 9)
    places = {Place("one", blob(n).digest): size for n, size in sizes.items()}
    found = Survey(sizes=places, manifests=frozenset(item.manifest_places))
    assert found.has_all(item) is whole
    assert not Survey(sizes=places).has_all(item)
    assert not found.is_whole(item)
    assert replace(found, tags={item.image.tag: item.image.digest}).is_whole(item) is whole
    assert [text.split(" at the")[0] for text in found.wrong_sizes(item)] == wrong


def test_progress_counts_what_became_of_each_byte() -> None:
    items = [cargo("one:1", 5, 9), cargo("two:1", 7, 9)]
    found = Survey(sizes={Place("one", blob(5).digest): 5})
    events: list[str] = []
    progress = PushProgress(items, schedule(items, found), lambda event: events.append(repr(event)))
    one, two = (item.image for item in items)
    progress.begin(one)
    progress.begin(one)
    progress.count_sent(one, 9, again=False)
    progress.finish(one)
    progress.count_sent(two, 7, again=True)
    progress.count_mounted(two, 9)
    progress.tell_not_mounted()
    assert events == [
        "Planned(total=25)",
        "Started(verb='push', item='image one:1', total=9)",
        "Finished(item='image one:1', skipped=False, wrong=False)",
        "Noted(text='the registry did not mount 1 blob from another of its repositories: "
        "7 B sent again')",
    ]
    assert progress.sent() == {
        one.tag: Sent(sent=9, there=5),
        two.tag: Sent(sent=7, again=7, mounted=9),
    }
