"""All that travels with a release, and holds, is at its destination before the release counts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bundler import added_files
from bundler.added_files import is_added_path
from bundler.digest import Digest
from bundler.errors import ConflictError, UntrustedError
from bundler.manifest import MANIFEST_NAME, Checkpoint, Manifest
from bundler.model_signature import model_statement
from bundler.provenance import provenance_statement
from bundler.publish import travelling, trust_versions
from bundler.publish.inventory import Inventory, own_paths, take_inventory
from bundler.publish.objects import (
    markers,
    plan_small_objects,
    put_release_file,
    release_files,
)
from bundler.publish.plan import State, Step
from bundler.publish.published import read_published
from bundler.publish.status import foreign_objects
from bundler.publish.travelling import carry_along
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.sign import sign_release
from bundler.signing.tuf_roots import read_root
from bundler.stores.upkeep import HeldObject
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from tests.memory_store import MemoryStore
from tests.published import Published
from tests.roots import Holders, Person, new_person, put, tuf_root

A, B, C, STRANGER = (new_person() for _ in range(4))
NOW = "2026-11-20T12:00:00Z"
CHAIN = {
    1: tuf_root(1, Holders([A], 1), [A]).to_bytes(),
    2: tuf_root(2, Holders([B], 1), [A, B]).to_bytes(),
    3: tuf_root(3, Holders([B, C], 1), [B, C]).to_bytes(),
}
ROOTS = {f"trust/{number}.root.json" for number in CHAIN}


def trust_in(content: bytes) -> Trust:
    return Trust.of_root(read_root(content, name="vendor.json"), now=NOW)


@pytest.fixture
def place(tmp_path: Path) -> Published:
    return Published(MemoryStore(), tmp_path)


@pytest.fixture
def signed(place: Published) -> Path:
    """A release that B and C signed, with all versions of the trust file."""
    release = place.release(1, {"one": {"x": b"x"}})
    for path in release.directory.glob("*.sig"):
        path.unlink()
    for person in (B, C):
        sign_release(release.directory, person.private)
    put(release.directory, CHAIN)
    return release.directory


def left_by(person: Person) -> set[str]:
    key8 = person.key8
    return {
        f"SHA256SUMS.{key8}.sig",
        f"SHA256SUMS.{key8}.sigstore.json",
        f"provenance.{key8}.sigstore.json",
        f"one.{key8}.oms.json",
    }


ALL = left_by(B) | left_by(C) | ROOTS


def publish(place: Published, release: TrustedRelease) -> None:
    layout = place.layout(release)
    for key, content in (release_files(release, layout) | markers(release, layout)).items():
        place.store.put(key, content)


def plan(place: Published, release: TrustedRelease) -> dict[str, Step]:
    steps = plan_small_objects(place.store, release, place.layout(release))
    return {step.name.partition("/releases/")[2].partition("/")[2]: step for step in steps}


def take(place: Published) -> Inventory:
    listed = (HeldObject(key=item.key, size=item.size, modified=0) for item in place.store.list(""))
    return take_inventory(place.target.s3.place, listed)


def open_carried(directory: Path, trust: Trust) -> TrustedRelease:
    """As the commands do that publish."""
    notes: list[str] = []
    return carry_along(open_release(directory, trust), notes.append)


def carried(release: TrustedRelease) -> tuple[Mapping[str, bytes], list[str]]:
    notes: list[str] = []
    found = carry_along(release, notes.append).carried
    assert found is not None
    return found, notes


def key_of(place: Published, release: TrustedRelease, path: str) -> str:
    return place.layout(release).release.key(path)


@pytest.mark.parametrize("version", CHAIN)
def test_whichever_version_the_operator_has_every_auditor_can_judge_what_was_published(
    place: Published, signed: Path, version: int
) -> None:
    publish(place, open_carried(signed, trust_in(CHAIN[version])))
    [held] = take(place).releases.values()
    for content in CHAIN.values():
        found = read_published(place.store, held, trust_in(content))
        assert found.trust.version == 3
        assert set(found.signatures) == {B.key8, C.key8}
    both = Trust.of_keys([B.public, C.public], 2)
    assert read_published(place.store, held, both).manifest.release.sequence == 1


@pytest.mark.parametrize(
    ("trust", "travels"),
    [(trust_in(CHAIN[2]), ALL), (Trust.of_keys([B.public, C.public]), left_by(B) | left_by(C))],
    ids=["a trust file", "keys, which prove none"],
)
def test_all_that_travels_is_known_at_the_destination(
    place: Published, signed: Path, trust: Trust, travels: set[str]
) -> None:
    release = open_carried(signed, trust)
    publish(place, release)
    inventory = take(place)
    [held] = inventory.releases.values()
    marker = {"complete/one.json"}
    assert set(held.objects) == travels | {MANIFEST_NAME, SUMS_NAME} | marker
    assert own_paths(held, release.manifest) == set(held.objects)  # prune takes all of it
    assert inventory.foreign == ()
    known = {release.manifest.release.directory: release.manifest}
    assert list(foreign_objects(inventory, known, [])) == []  # status knows all of it
    assert {step.state for step in plan(place, release).values()} == {State.PRESENT}
    for name in travels:
        key = key_of(place, release, name)
        assert place.store.get(key, limit=1 << 20) == (signed / name).read_bytes()


def test_the_manifest_comes_last_so_that_nothing_counts_before_all_is_there(
    place: Published, signed: Path
) -> None:
    release = open_carried(signed, trust_in(CHAIN[3]))
    *others, sums, manifest = release_files(release, place.layout(release))
    assert len(others) == len(ALL)
    assert (sums.rpartition("/")[2], manifest.rpartition("/")[2]) == (SUMS_NAME, MANIFEST_NAME)


@pytest.mark.parametrize(
    "name", sorted(left_by(B) - {signature_name(B.key8)}), ids=lambda name: name.split(".")[-2]
)
def test_what_does_not_hold_is_told_of_and_not_copied(signed: Path, name: str) -> None:
    content = (signed / name.replace(B.key8, C.key8)).read_bytes()
    (signed / name).write_bytes(content)
    found, notes = carried(open_release(signed, trust_in(CHAIN[3])))
    assert set(found) == ALL - {name}
    [note] = notes
    assert name in note
    assert note.endswith("it is not copied")


def test_only_signatures_that_hold_travel(signed: Path) -> None:
    sign_release(signed, STRANGER.private)
    (signed / signature_name("00000000")).write_bytes(b"junk")
    trust = trust_in(CHAIN[3])
    assert set(carried(open_release(signed, trust))[0]) == ALL
    stranger = (signed / signature_name(STRANGER.key8)).read_bytes()
    (signed / signature_name(B.key8)).write_bytes(stranger)
    found, [note] = carried(open_release(signed, trust))
    assert set(found) == ALL - {signature_name(B.key8)}
    assert f"{signature_name(B.key8)}: expected key {B.key8}'s signature" in note


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(tuf_root(1, Holders([A], 1), []).to_bytes(), id="unsigned"),
        pytest.param(tuf_root(1, Holders([STRANGER], 1), [STRANGER]).to_bytes(), id="another's"),
        pytest.param(b"{}", id="no trust file"),
    ],
)
def test_versions_that_do_not_lead_to_the_operators_are_told_of_and_not_copied(
    signed: Path, first: bytes
) -> None:
    (signed / "trust" / "1.root.json").write_bytes(first)
    found, [note] = carried(open_release(signed, trust_in(CHAIN[2])))
    assert ROOTS & set(found) == ROOTS - {"trust/1.root.json"}
    assert note.endswith("it is not copied")


def test_versions_older_than_the_operators_are_copied_where_they_lead_to_it(signed: Path) -> None:
    (signed / "trust" / "3.root.json").unlink()
    found, notes = carried(open_release(signed, trust_in(CHAIN[3])))
    assert ROOTS & set(found) == {"trust/1.root.json", "trust/2.root.json"}
    assert notes == []
    (signed / "trust" / "2.root.json").unlink()
    found, [note] = carried(open_release(signed, trust_in(CHAIN[3])))
    assert not ROOTS & set(found)
    assert "2.root.json: expected this version after 1, got 3 next" in note
    # What else was listed as signed by 3's keys goes along all the same.
    assert left_by(B) <= set(found)


def test_an_older_version_that_the_operator_has_otherwise_is_not_copied(signed: Path) -> None:
    """They hold in themselves, and lead elsewhere."""
    for number, content in {
        1: tuf_root(1, Holders([STRANGER], 1), [STRANGER]),
        2: tuf_root(2, Holders([STRANGER], 1), [STRANGER]),
    }.items():
        (signed / "trust" / f"{number}.root.json").write_bytes(content.to_bytes())
    (signed / "trust" / "3.root.json").unlink()
    found, [note] = carried(open_release(signed, trust_in(CHAIN[3])))
    assert not ROOTS & set(found)
    assert "expected signatures by 1 of the 1 keys of version 2" in note


def test_a_file_of_another_content_is_never_overwritten(place: Published, signed: Path) -> None:
    release = open_carried(signed, trust_in(CHAIN[3]))
    names = sorted(left_by(B) - {signature_name(B.key8)})
    for name in names:
        place.store.put(key_of(place, release, name), b"another")
    steps = plan(place, release)
    for name in names:
        assert (steps[name].state, steps[name].kept) == (State.PRESENT, True)
        assert "another one is there, and stays" in str(steps[name])
    assert steps[f"provenance.{C.key8}.sigstore.json"].state is State.TO_DO


@pytest.mark.parametrize(
    ("there", "state"),
    [
        (tuf_root(2, Holders([B], 1), [B, A]).to_bytes(), State.PRESENT),  # other order
        (tuf_root(2, Holders([STRANGER], 1), [STRANGER]).to_bytes(), State.CONFLICT),
        (tuf_root(2, Holders([B], 1), [A]).to_bytes(), State.CONFLICT),  # not signed by its own
        (tuf_root(2, Holders([B], 1), [B]).to_bytes(), State.CONFLICT),  # not by the one before
        (b"junk", State.CONFLICT),
    ],
)
def test_a_trust_file_at_the_destination_must_be_the_same_version(
    place: Published, signed: Path, there: bytes, state: State
) -> None:
    for version in (1, 2, 3):
        release = open_carried(signed, trust_in(CHAIN[version]))
        key = key_of(place, release, "trust/2.root.json")
        if place.store.head(key) is None:
            place.store.put(key, there)
        step = plan(place, release)["trust/2.root.json"]
        assert step.state is state
        if state is State.CONFLICT:
            assert "another file of this version of the trust file" in step.detail
            assert "ask the vendor" in step.detail


def test_no_more_is_read_than_fits_into_memory(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ROOTS | {signature_name(B.key8), signature_name(C.key8)}
    size = sum((signed / name).stat().st_size for name in first)
    monkeypatch.setattr(travelling, "MAX_CARRIED_BYTES", size)
    found, [note] = carried(open_release(signed, trust_in(CHAIN[3])))
    assert set(found) == first
    assert f"expected at most {size} bytes" in note


@pytest.mark.parametrize("wrong", [{1}, {1, 2}, {1, 2, 3}])
def test_with_keys_no_trust_file_is_proven_and_none_is_copied(
    signed: Path, wrong: set[int]
) -> None:
    """Whoever had the medium in hand made them; they would bar the genuine ones for good."""
    stranger = Holders([STRANGER], 1)
    put(signed, {n: tuf_root(n, stranger, [STRANGER]).to_bytes() for n in wrong})
    sign_release(signed, STRANGER.private)
    found, notes = carried(open_release(signed, Trust.of_keys([C.public])))
    assert set(found) == left_by(C)
    assert notes == []


def test_what_judged_is_copied_though_the_medium_was_changed_since(signed: Path) -> None:
    release = open_release(signed, trust_in(CHAIN[2]))
    stranger = Holders([STRANGER], 1)
    put(signed, {n: tuf_root(n, stranger, [STRANGER]).to_bytes() for n in (1, 2, 3, 4)})
    sign_release(signed, STRANGER.private)
    found, notes = carried(release)
    assert {path: found[path] for path in ROOTS & set(found)} == {
        "trust/2.root.json": CHAIN[2],
        "trust/3.root.json": CHAIN[3],
    }
    assert not left_by(STRANGER) & set(found)
    assert "trust/4.root.json" not in found
    named = [match[1] for note in notes if (match := re.search(r"(\d)\.root", note))]
    assert named == ["2", "3", "1", "4"]


def test_who_has_an_older_version_can_follow_the_copy_of_the_operators(signed: Path) -> None:
    stripped = tuf_root(2, Holders([B], 1), [B]).to_bytes()
    put(signed, {2: stripped})
    (signed / "trust" / "3.root.json").unlink()
    found, [note] = carried(open_release(signed, trust_in(CHAIN[2])))
    assert found["trust/1.root.json"] == CHAIN[1]
    assert found["trust/2.root.json"] == CHAIN[2]
    assert "2.root.json: version 2: expected signatures by 1 of the 1 keys of version 1" in note
    put(signed, CHAIN)
    (signed / "trust" / "3.root.json").unlink()
    found, [note] = carried(open_release(signed, trust_in(stripped)))
    assert found["trust/2.root.json"] == CHAIN[2]
    assert "trust/1.root.json" not in found
    assert "keys of version 1" in note


def test_older_versions_are_read_no_further_than_their_limit(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_versions, "MAX_CHAIN_BYTES", len(CHAIN[2]))
    found, [note] = carried(open_release(signed, trust_in(CHAIN[3])))
    assert ROOTS & set(found) == {"trust/2.root.json", "trust/3.root.json"}
    assert f"1.root.json: expected at most {len(CHAIN[2])} bytes of trust files" in note


def test_each_statement_is_made_once_however_many_keys_are_asked_about(
    place: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [new_person() for _ in range(6)]
    release = place.release(1, {name: {"x": name.encode()} for name in ("one", "two")})
    made: list[str] = []

    def counted(checkpoint: Checkpoint) -> bytes:
        made.append(checkpoint.name)
        return model_statement(checkpoint)

    def counted_provenance(manifest: Manifest, sums: Mapping[str, Digest]) -> bytes:
        made.append("provenance")
        return provenance_statement(manifest, sums)

    monkeypatch.setattr(added_files, "model_statement", counted)
    monkeypatch.setattr(added_files, "provenance_statement", counted_provenance)
    directory = release.directory
    for person in people:
        for name in left_by(person) | {f"two.{person.key8}.oms.json"}:
            (directory / name).write_bytes(b"junk")
    trust = Trust.of_keys([*(person.public for person in people), *release.signers])
    _, notes = carried(open_release(directory, trust))
    assert len(notes) == 5 * len(people)
    assert sorted(made) == ["one", "provenance", "two"]


def test_statements_are_not_made_for_keys_that_only_an_unproven_trust_file_names(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Holders([B, C, STRANGER], 1)
    put(signed, {1: tuf_root(1, named, [STRANGER]).to_bytes()})
    asked: list[str] = []
    really = added_files.AddedFiles.of

    def of(self: added_files.AddedFiles, key8: str) -> Iterator[added_files.AddedFile]:
        asked.append(key8)
        return really(self, key8)

    monkeypatch.setattr(added_files.AddedFiles, "of", of)
    carried(open_release(signed, Trust.of_keys([C.public])))
    assert asked == [C.key8]


def test_what_travels_is_read_once_and_the_medium_may_go(place: Published, signed: Path) -> None:
    release = open_carried(signed, trust_in(CHAIN[1]))
    before = release_files(release, place.layout(release))
    shutil.rmtree(signed)
    assert release_files(release, place.layout(release)) == before


def as_good(person: Person, release: TrustedRelease) -> bytes:
    """ECDSA: the same key signs the same bytes otherwise each time."""
    return person.private.sign(release.sums_bytes)


@pytest.mark.parametrize(
    ("path", "make", "stays"),
    [
        (signature_name(B.key8), lambda release: as_good(B, release), True),
        (signature_name(B.key8), lambda release: as_good(STRANGER, release), False),
        (f"provenance.{B.key8}.sigstore.json", lambda _: b"whatever", True),
        ("trust/2.root.json", lambda _: tuf_root(2, Holders([B], 1), [B, A]).to_bytes(), True),
        ("trust/2.root.json", lambda _: tuf_root(2, Holders([B], 1), [B]).to_bytes(), False),
        (MANIFEST_NAME, lambda _: b"{}", False),
    ],
)
def test_what_another_publisher_put_meanwhile_is_judged_like_what_was_there_before(
    place: Published,
    signed: Path,
    path: str,
    make: Callable[[TrustedRelease], bytes],
    stays: bool,
) -> None:
    release = open_carried(signed, trust_in(CHAIN[3]))
    layout, planned = place.layout(release), plan(place, release)[path]
    assert planned.state is State.TO_DO
    theirs = make(release)
    place.store.put(planned.name, theirs)
    if stays:
        step = put_release_file(place.store, release, layout, planned)
        assert (step.state, step.kept) == (State.PRESENT, True)
    else:
        with pytest.raises(ConflictError):
            put_release_file(place.store, release, layout, planned)
    assert place.store.get(planned.name, limit=1 << 20) == theirs


def test_a_release_without_its_chain_is_refused_by_who_has_an_older_version(
    place: Published, signed: Path
) -> None:
    for number in CHAIN:
        (signed / "trust" / f"{number}.root.json").unlink()
    publish(place, open_carried(signed, trust_in(CHAIN[3])))
    [held] = take(place).releases.values()
    with pytest.raises(UntrustedError):
        read_published(place.store, held, trust_in(CHAIN[1]))


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("SHA256SUMS.0123abcd.sig", True),
        ("SHA256SUMS.0123abcd.sigstore.json", True),
        ("provenance.0123abcd.sigstore.json", True),
        ("tiny_1.5.0123abcd.oms.json", True),
        ("trust/12.root.json", True),
        ("SHA256SUMS.0123ABCD.sig", False),
        ("SHA256SUMS.0123abc.sigstore.json", False),
        ("anything.0123abcd.sigstore.json", False),
        ("provenance.0123abcd.sigstore.json.bak", False),
        (".hidden.0123abcd.oms.json", False),
        ("a/b.0123abcd.oms.json", False),
        (".0123abcd.oms.json", False),
        ("trust/01.root.json", False),
        (MANIFEST_NAME, False),
    ],
)
def test_only_exact_names_are_taken_for_added_files(name: str, added: bool) -> None:
    assert is_added_path(name) is added
