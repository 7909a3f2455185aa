"""Trust files: made, changed, signed by several, brought into releases and out of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import Signature

from bundler.errors import (
    CheckError,
    ConflictError,
    MalformedError,
    NotFoundError,
    StaleError,
    UntrustedError,
)
from bundler.publish.inventory import own_paths, take_inventory
from bundler.publish.objects import markers, release_files
from bundler.publish.published import read_published
from bundler.publish.status import foreign_objects
from bundler.publish.travelling import carry_along
from bundler.release import open_release
from bundler.release_files import ReleaseDirectory
from bundler.sign import sign_release
from bundler.signing.keys import PublicKey
from bundler.signing.tuf_roots import read_root
from bundler.stores.upkeep import HeldObject
from bundler.trust import Trust
from bundler.trust_files import (
    Standing,
    add_key,
    attach_roots,
    create_root,
    next_root,
    read_root_file,
    read_standing,
    remove_key,
    sign_root,
    update_root,
)
from tests.memory_store import MemoryStore
from tests.published import Published
from tests.roots import (
    Holders,
    Person,
    new_person,
    newest_by_their_client,
    put,
    tuf_root,
    under_another_id,
)
from tests.unit.small_files import write_small_files

A, B, C, D = (new_person() for _ in range(4))
NOW, LATER = "2026-11-20T00:00:00Z", "2028-05-01T00:00:00Z"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Version 1 of A, B and C, two of whom must sign; nobody did."""
    path = tmp_path / "trust" / "1.root.json"
    create_root(path, [A.public, B.public, C.public], 2, LATER)
    return path


def sign(path: Path, *people: Person) -> Standing:
    return [sign_root(path, person.private) for person in people][-1]


@pytest.fixture
def second(first: Path) -> Path:
    """Version 2 with D in the place of A, after a version 1 that is signed; nobody signed it."""
    sign(first, A, B)
    path = first.with_name("2.root.json")
    next_root(first, None, LATER, None)
    add_key(path, D.public, None)
    remove_key(path, A.public, None)
    return path


def test_three_people_on_three_machines_sign_in_any_order(first: Path, tmp_path: Path) -> None:
    unsigned = json.loads(first.read_bytes())["signed"]
    signed = []
    for order in ([A, B, C], [C, A, B], [B, C, A]):
        path = tmp_path / "machine" / "received.json"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(first, path)
        for number, person in enumerate(order, 1):
            at_home = path.with_name(f"{person.key8}.json")
            path.rename(at_home)
            standing = sign_root(at_home, person.private)
            assert (standing.own.missing, standing.is_complete) == (max(0, 2 - number), number > 1)
            at_home.rename(path)
        assert json.loads(path.read_bytes())["signed"] == unsigned
        signed.append({item["keyid"] for item in json.loads(path.read_bytes())["signatures"]})
    assert signed[0] == signed[1] == signed[2]
    assert len(signed[0]) == 3


def test_who_signed_and_who_is_missing_is_told(first: Path) -> None:
    assert str(read_standing(first).own).startswith("signed by none of them; 2 more of ")
    others = ", ".join(sorted([A.key8, C.key8]))
    assert str(sign(first, B).own) == f"signed by {B.key8}; 1 more of {others} needed"
    assert str(sign(first, C).own) == f"signed by {', '.join(sorted([B.key8, C.key8]))}"


def test_signing_again_changes_nothing(first: Path) -> None:
    sign(first, A)
    before = first.read_bytes(), first.stat().st_ino
    sign(first, A)
    assert (first.read_bytes(), first.stat().st_ino) == before


def test_a_signature_that_does_not_hold_is_replaced(first: Path) -> None:
    sign(first, A)
    whole = json.loads(first.read_bytes())
    whole["signatures"][0]["sig"] = A.private.sign(b"something else").hex()
    first.write_text(json.dumps(whole))
    assert not read_standing(first).own.signed
    assert sign(first, A).own.signed == (A.public,)
    assert len(json.loads(first.read_bytes())["signatures"]) == 1


class Liar:
    """A token that says it is A's key and signs with another."""

    public: PublicKey = A.public

    def sign(self, content: bytes) -> bytes:
        return B.private.sign(content)


def test_a_signature_that_was_just_made_is_verified_before_it_is_written(first: Path) -> None:
    before = first.read_bytes()
    with pytest.raises(CheckError, match=f"just made by {A.key8} does not hold"):
        sign_root(first, Liar())
    assert first.read_bytes() == before
    assert list(first.parent.iterdir()) == [first]


def test_whoever_holds_neither_version_cannot_sign(first: Path) -> None:
    with pytest.raises(UntrustedError, match=f"got {D.key8}"):
        sign(first, D)


def test_a_key_that_is_removed_signs_for_the_version_before(second: Path) -> None:
    standing = sign(second, A)
    assert standing.by_before is not None
    assert standing.by_before.signed == (A.public,)
    assert not standing.own.signed
    standing = sign(second, D, C)
    assert set(standing.own.signed) == {C.public, D.public}
    assert str(standing.by_before) == f"signed by {', '.join(sorted([A.key8, C.key8]))}"
    assert standing.is_complete


def test_enough_of_the_new_keys_alone_do_not_make_a_version_complete(second: Path) -> None:
    standing = sign(second, C, D)
    assert standing.own
    assert not standing.is_complete
    assert standing.by_before is not None
    assert standing.by_before.missing == 1
    assert sign(second, B).is_complete


def test_without_the_version_before_nobody_says_that_enough_have_signed(
    second: Path, tmp_path: Path
) -> None:
    sign(second, A, B, C, D)
    alone = Path(shutil.copy(second, tmp_path / "alone.json"))
    assert not read_standing(alone).is_complete
    assert read_standing(alone, second.with_name("1.root.json")).is_complete
    with pytest.raises(UntrustedError, match="a key of this version") as caught:
        sign(alone, A)
    assert "1.root.json" in str(caught.value.hint)
    with pytest.raises(MalformedError, match="expected version 1, the one before"):
        read_standing(alone, alone)


def test_one_who_signed_before_the_version_before_was_known_signs_for_that_too(
    tmp_path: Path,
) -> None:
    """Another tool may have listed the key under an id of its own: each version has its ids."""
    theirs = tuf_root(1, Holders([A], 1), [])
    root = theirs.signed
    for role in root.roles.values():
        role.keyids = ["key-a"]
    root.keys = {"key-a": under_another_id(A.signer.public_key, "key-a")}
    signature = A.signer.sign(theirs.signed_bytes)
    theirs.signatures["key-a"] = Signature("key-a", signature.signature)
    first = tmp_path / "1.root.json"
    first.write_bytes(theirs.to_bytes())
    second = tmp_path / "2.root.json"
    next_root(first, None, LATER, None)
    (tmp_path / "apart").mkdir()
    alone = Path(shutil.move(second, tmp_path / "apart" / "2.root.json"))
    assert not sign(alone, A).is_complete
    assert sign_root(alone, A.private, first).is_complete


def test_what_the_tool_makes_the_reference_client_follows(second: Path, tmp_path: Path) -> None:
    sign(second, B, C)
    first = second.with_name("1.root.json").read_bytes()
    newest, refused = newest_by_their_client(first, second.parent, tmp_path / "client")
    assert (newest, refused) == (second.read_bytes(), False)


def test_a_version_that_somebody_signed_is_not_changed(first: Path) -> None:
    sign(first, A)
    before = first.read_bytes()
    for change in (add_key, remove_key):
        with pytest.raises(ConflictError, match="that nobody signed yet") as caught:
            change(first, D.public, None)
        assert "bundle trust rotate" in str(caught.value.hint)
    assert first.read_bytes() == before


def test_the_next_version_is_made_from_one_that_enough_signed(first: Path) -> None:
    sign(first, A)
    with pytest.raises(UntrustedError, match="expected signatures by 2 of the 3 keys"):
        next_root(first, None, LATER, None)
    sign(first, B)
    made = next_root(first, None, "2030-01-01T00:00:00Z", 3)
    assert (made.version, made.expires, made.signers.threshold) == (2, "2030-01-01T00:00:00Z", 3)
    assert made.signers.keys == read_root_file(first).signers.keys
    assert not made.is_signed
    with pytest.raises(ConflictError, match="a version is never overwritten"):
        next_root(first, None, LATER, None)
    assert next_root(first, first.with_name("other.json"), LATER, None).version == 2


def test_a_first_version_is_never_overwritten(first: Path) -> None:
    with pytest.raises(ConflictError):
        create_root(first, [A.public], 1, LATER)
    link = first.with_name("link")
    link.symlink_to("nowhere")
    with pytest.raises(ConflictError):
        create_root(link, [A.public], 1, LATER)


def test_a_key_given_twice_is_refused_when_a_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="expected each key once"):
        create_root(tmp_path / "1.root.json", [A.public, B.public, A.public], 2, LATER)
    assert not (tmp_path / "1.root.json").exists()


@pytest.mark.parametrize("threshold", [0, 3])
def test_a_threshold_that_nobody_can_meet_is_refused(tmp_path: Path, threshold: int) -> None:
    with pytest.raises(MalformedError, match="expected a threshold from 1 to 2"):
        create_root(tmp_path / "1.root.json", [A.public, B.public], threshold, LATER)


def test_keys_come_and_go_with_the_threshold(first: Path) -> None:
    with pytest.raises(ConflictError, match=f"got {A.key8}, which is there"):
        add_key(first, A.public, None)
    assert len(add_key(first, D.public, 4).signers.keys) == 4
    with pytest.raises(MalformedError, match=r"expected a threshold from 1 to 3, .*, got 4"):
        remove_key(first, A.public, None)
    made = remove_key(first, A.public, 3)
    assert set(made.signers.keys) == {B.public, C.public, D.public}
    assert made.signers == made.holders == read_root_file(first).signers
    with pytest.raises(MalformedError, match=f"got {A.key8}"):
        remove_key(first, A.public, None)


def test_what_another_tool_made_with_other_roles_is_signed_and_not_rewritten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.root.json"
    made = tuf_root(1, Holders([A, B], 2), [A], releases=Holders([C], 1))
    path.write_bytes(made.to_bytes())
    assert sign(path, B).is_complete
    with pytest.raises(MalformedError, match="by the tool that made it only"):
        next_root(path, None, LATER, None)


# In a release, and out of it


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = write_small_files(tmp_path / "release")
    for person in (C, D):
        sign_release(directory, person.private)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_all_versions_go_into_a_release_and_nothing_of_it_changes(
    second: Path, release: Path
) -> None:
    sign(second, B, C, D)
    next_root(second, None, LATER, None)  # a draft of the next one lies there, too
    before = contents(release)
    written = attach_roots(second, release)
    assert [path.name for path in written] == ["1.root.json", "2.root.json"]
    after = contents(release)
    assert {name: after[name] for name in before} == before
    assert {name: after[name] for name in after.keys() - before.keys()} == {
        f"trust/{path.name}": path.read_bytes()
        for path in (second.with_name("1.root.json"), second)
    }
    assert attach_roots(second, release) == []
    trust = Trust.of_root(read_root_file(second.with_name("1.root.json")), now=NOW)
    assert open_release(release, trust).trust.version == 2


def test_a_link_in_a_release_is_not_followed(second: Path, release: Path, tmp_path: Path) -> None:
    sign(second, B, C, D)
    (tmp_path / "elsewhere").mkdir()
    (release / "trust").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError, match="got a link"):
        attach_roots(second, release)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_version_that_too_few_signed_does_not_go_into_a_release(
    second: Path, release: Path
) -> None:
    sign(second, C, D)
    with pytest.raises(UntrustedError, match="keys of version 1"):
        attach_roots(second, release)
    sign(second, B)
    second.with_name("1.root.json").unlink()
    with pytest.raises(NotFoundError, match=r"1\.root\.json"):
        attach_roots(second, release)
    assert not (release / "trust").exists()


def test_another_version_in_a_release_is_not_overwritten(second: Path, release: Path) -> None:
    sign(second, B, C, D)
    put(release, {2: b"{}"})
    with pytest.raises(ConflictError, match=r"trust/2\.root\.json: expected no file or version 2"):
        attach_roots(second, release)
    assert [path.name for path in (release / "trust").iterdir()] == ["2.root.json"]


def test_a_file_that_is_called_otherwise_is_not_taken_for_the_newest(
    second: Path, release: Path
) -> None:
    sign(second, B, C, D)
    other = Path(shutil.copy(second, second.with_name("other.json")))
    assert attach_roots(other, release)
    sign(other, A)
    with pytest.raises(
        ConflictError, match=r"other\.json: expected to be .*2\.root\.json"
    ) as caught:
        attach_roots(other, release)
    assert "each called after its version" in str(caught.value.hint)


def test_a_site_keeps_the_newest_version(second: Path, release: Path, tmp_path: Path) -> None:
    sign(second, B, C, D)
    attach_roots(second, release)
    mine = Path(shutil.copy(second.with_name("1.root.json"), tmp_path / "vendor.json"))
    link = tmp_path / "link.json"
    link.symlink_to(mine)
    given, newest = update_root(link, ReleaseDirectory(release), now=NOW)
    assert (given.version, newest.version) == (1, 2)
    assert mine.read_bytes() == second.read_bytes()
    assert link.is_symlink()
    given, newest = update_root(mine, ReleaseDirectory(release), now=NOW)
    assert given is newest


def test_a_chain_that_does_not_hold_leaves_the_file_as_it_was(
    second: Path, release: Path, tmp_path: Path
) -> None:
    sign(second, C, D)
    mine = Path(shutil.copy(second.with_name("1.root.json"), tmp_path / "vendor.json"))
    before = mine.read_bytes()
    put(release, {2: second.read_bytes()})
    with pytest.raises(UntrustedError):
        update_root(mine, ReleaseDirectory(release), now=NOW)
    sign(second, B)
    put(release, {2: second.read_bytes()})
    with pytest.raises(StaleError):
        update_root(mine, ReleaseDirectory(release), now=LATER)
    assert mine.read_bytes() == before


def test_the_chain_lies_beside_a_release_at_its_destination(tmp_path: Path) -> None:
    published = Published(MemoryStore(), tmp_path)
    made = published.release(1, {"one": {"x": b"x"}})
    sign_release(made.directory, D.private)
    old = tuf_root(1, Holders([A], 1), [A]).to_bytes()
    put(made.directory, {2: tuf_root(2, Holders([D], 1), [A, D]).to_bytes()})
    trust = Trust.of_root(read_root(old, name="vendor.json"), now=NOW)
    notes: list[str] = []
    release = carry_along(open_release(made.directory, trust), notes.append)
    assert notes == []
    layout = published.layout(release)
    for key, content in (release_files(release, layout) | markers(release, layout)).items():
        published.store.put(key, content)
    listed = [
        HeldObject(key=item.key, size=item.size, modified=0) for item in published.store.list("")
    ]
    inventory = take_inventory(published.target.s3.place, listed)
    assert inventory.foreign == ()
    [held] = inventory.releases.values()
    assert "trust/2.root.json" in held.objects
    assert own_paths(held, release.manifest) == set(held.objects)
    known = {release.manifest.release.directory: release.manifest}
    assert list(foreign_objects(inventory, known, [])) == []
    assert read_published(published.store, held, trust).trust.version == 2
    gone, _ = held.split(held.objects.keys() - {"trust/2.root.json"})
    with pytest.raises(UntrustedError, match="none that holds"):
        read_published(published.store, gone, trust)
