"""All that travels with a release, and holds, is at its destination before the release counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bundler import added_files
from bundler.added_files import carry_along, is_added_path
from bundler.errors import UntrustedError
from bundler.manifest import MANIFEST_NAME
from bundler.publish.inventory import Inventory, own_paths, take_inventory
from bundler.publish.objects import markers, plan_small_objects, release_files
from bundler.publish.plan import State, Step
from bundler.publish.published import read_published
from bundler.publish.status import foreign_objects
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
    publish(place, open_release(signed, trust_in(CHAIN[version])))
    [held] = take(place).releases.values()
    for content in CHAIN.values():
        found = read_published(place.store, held, trust_in(content))
        assert found.trust.version == 3
        assert set(found.signatures) == {B.key8, C.key8}
    both = Trust.of_keys([B.public, C.public], 2)
    assert read_published(place.store, held, both).manifest.release.sequence == 1


@pytest.mark.parametrize("trust", [trust_in(CHAIN[2]), Trust.of_keys([C.public])])
def test_all_that_travels_is_known_at_the_destination(
    place: Published, signed: Path, trust: Trust
) -> None:
    release = open_release(signed, trust)
    publish(place, release)
    inventory = take(place)
    [held] = inventory.releases.values()
    marker = {"complete/one.json"}
    assert set(held.objects) == ALL | {MANIFEST_NAME, SUMS_NAME} | marker
    assert own_paths(held, release.manifest) == set(held.objects)  # prune takes all of it
    assert inventory.foreign == ()
    known = {release.manifest.release.directory: release.manifest}
    assert list(foreign_objects(inventory, known, [])) == []  # status knows all of it
    assert {step.state for step in plan(place, release).values()} == {State.PRESENT}
    for name in ALL:
        key = key_of(place, release, name)
        assert place.store.get(key, limit=1 << 20) == (signed / name).read_bytes()


def test_the_manifest_comes_last_so_that_nothing_counts_before_all_is_there(
    place: Published, signed: Path
) -> None:
    release = open_release(signed, trust_in(CHAIN[3]))
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


def test_only_signatures_that_hold_travel_also_of_keys_that_only_the_trust_file_names(
    signed: Path,
) -> None:
    sign_release(signed, STRANGER.private)
    (signed / signature_name("00000000")).write_bytes(b"junk")
    alone = Trust.of_keys([C.public])
    assert set(carried(open_release(signed, alone))[0]) == ALL
    stranger = (signed / signature_name(STRANGER.key8)).read_bytes()
    (signed / signature_name(B.key8)).write_bytes(stranger)
    found, [note] = carried(open_release(signed, alone))
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
    assert {path for path in found if path.startswith("trust/")} == {"trust/3.root.json"}
    assert "trust/" in note
    assert note.endswith("so only versions that yours proves are copied")


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
    """The chain holds in itself, and leads elsewhere."""
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
    release = open_release(signed, trust_in(CHAIN[3]))
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
        (tuf_root(2, Holders([B], 1), [A]).to_bytes(), State.CONFLICT),  # signed by too few
        (b"junk", State.CONFLICT),
    ],
)
def test_a_trust_file_at_the_destination_must_be_the_same_version(
    place: Published, signed: Path, there: bytes, state: State
) -> None:
    release = open_release(signed, trust_in(CHAIN[3]))
    place.store.put(key_of(place, release, "trust/2.root.json"), there)
    assert plan(place, release)["trust/2.root.json"].state is state


def test_no_more_is_read_than_fits_into_memory(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum((signed / name).stat().st_size for name in ROOTS)
    monkeypatch.setattr(added_files, "MAX_CARRIED_BYTES", size)
    found, [note] = carried(open_release(signed, trust_in(CHAIN[3])))
    assert set(found) == ROOTS | {signature_name(B.key8), signature_name(C.key8)}
    assert f"more than {size} bytes" in note


def test_a_chain_of_a_stranger_that_is_too_long_is_not_followed_to_its_end(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was given keys has no trust file that it must follow from."""
    stranger = Holders([STRANGER], 1)
    put(signed, {n: tuf_root(n, stranger, [STRANGER]).to_bytes() for n in range(1, 10)})
    one = (signed / "trust" / "1.root.json").stat().st_size
    monkeypatch.setattr(added_files, "MAX_CHAIN_BYTES", 8 * one)
    found, [note] = carried(open_release(signed, Trust.of_keys([C.public])))
    assert not [path for path in found if path.startswith("trust/")]
    assert f"trust: expected at most {8 * one} bytes, got more; so only versions" in note


def test_a_release_without_its_chain_is_refused_by_who_has_an_older_version(
    place: Published, signed: Path
) -> None:
    for number in CHAIN:
        (signed / "trust" / f"{number}.root.json").unlink()
    publish(place, open_release(signed, trust_in(CHAIN[3])))
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
