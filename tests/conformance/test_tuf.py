"""Cases of tuf-conformance, by their names there, as far as a trust file can meet them.

The role targets names who signs releases; it takes the place of the roles that we do not use.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import BadVersionNumberError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from bundler.errors import MalformedError, StaleError, UntrustedError
from bundler.release import open_release
from bundler.release_files import ReleaseDirectory
from bundler.sign import sign_release
from bundler.signing.tuf_roots import read_root
from bundler.trust import Trust, follow
from bundler.trust_files import add_key, create_root, next_root, remove_key, sign_root
from tests.roots import Holders, Person, new_person, put, signed, tuf_root, under_another_id
from tests.unit.small_files import write_small_files

PEOPLE = [new_person() for _ in range(10)]
A = PEOPLE[0]
NOW, LATER = "2026-11-20T00:00:00Z", "2028-05-01T00:00:00Z"
PAST = datetime(2026, 1, 1, tzinfo=UTC)
Change = Callable[[Metadata[Root]], object]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_files(tmp_path / "release")


def people(numbers: list[int]) -> list[Person]:
    return [PEOPLE[number] for number in numbers]


def opened(release: Path, root: Metadata[Root]) -> Trust:
    """Have a release judged by a trust file."""
    trust = Trust.of_root(read_root(root.to_bytes(), name="vendor.json"), now=NOW)
    return open_release(release, trust).trust


def changed(change: Change) -> Metadata[Root]:
    """Give a version 1 that A alone holds, signed after it was changed."""
    made = tuf_root(1, Holders([A], 1), [])
    change(made)
    return signed(made.signed, [A])


# Who must sign the releases, how many, and who did; whether the release is taken.
NON_ROOT_ROTATIONS: dict[str, tuple[list[int], int, list[int], bool]] = {
    "1-of-1-key-rotation": ([2], 1, [2], True),
    "1-of-1-key-rotation-unused-signatures": ([1], 1, [3, 1, 4], True),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": ([2], 1, [1, 3, 4], False),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": (
        [0, 1, 3, 4, 5],
        3,
        [0, 2, 4],
        False,
    ),
    "2-of-5-one-key-signature-mising-threshold-not-reached": ([0, 1, 3, 4, 5], 3, [0, 4], False),
    "3-of-5-sign-first-combo": ([0, 1, 2, 3, 4], 3, [0, 2, 4], True),
    "3-of-5-sign-second-combo": ([0, 1, 2, 3, 4], 3, [0, 4, 1], True),
    "3-of-5-sign-third-combo": ([0, 1, 2, 3, 4], 3, [0, 1, 3], True),
    "3-of-5-sign-fourth-combo": ([0, 1, 2, 3, 4], 3, [1, 2, 3], True),
    "3-of-5-sign-fifth-combo": ([0, 1, 2, 3, 4], 3, [2, 3, 4], True),
}


@pytest.mark.parametrize(
    ("keys", "threshold", "by", "good"), NON_ROOT_ROTATIONS.values(), ids=NON_ROOT_ROTATIONS
)
def test_non_root_rotations(
    release: Path, keys: list[int], threshold: int, by: list[int], good: bool
) -> None:
    """A second version gives the role to others, and keeps who holds the trust file."""
    first = tuf_root(1, Holders([A], 1), [A])
    second = tuf_root(2, Holders([A], 1), [A], releases=Holders(people(keys), threshold))
    put(release, {2: second.to_bytes()})
    for person in people(by):
        sign_release(release, person.private)
    if good:
        assert opened(release, first).version == 2
    else:
        with pytest.raises(UntrustedError, match="SHA256SUMS: expected "):
            opened(release, first)


def _without_version(made: Metadata[Root]) -> bytes:
    whole = json.loads(made.to_bytes())
    del whole["signed"]["version"]
    return json.dumps(whole).encode()


def test_basic_init_and_refresh(release: Path) -> None:
    sign_release(release, A.private)
    assert opened(release, tuf_root(1, Holders([A], 1), [A])).version == 1


def test_invalid_initial_root() -> None:
    content = _without_version(tuf_root(1, Holders([A], 1), [A]))
    with pytest.raises(MalformedError, match="not TUF root metadata"):
        read_root(content, name="vendor.json")


def test_unsigned_initial_root(release: Path) -> None:
    made = tuf_root(1, Holders([A], 1), [A])
    other = tuf_root(1, Holders([A], 1), [A], expires=PAST)
    sign_release(release, A.private)
    made.signatures = other.signatures
    with pytest.raises(UntrustedError, match="version 1: expected signatures by 1 of the 1 keys"):
        opened(release, made)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_unsigned_metadata(release: Path, role: str) -> None:
    put(release, {2: tuf_root(2, Holders([A], 1), [] if role == "root" else [A]).to_bytes()})
    if role == "root":
        sign_release(release, A.private)
    with pytest.raises(UntrustedError):
        opened(release, tuf_root(1, Holders([A], 1), [A]))


def test_custom_fields(release: Path) -> None:
    """Unknown fields are signed like all others: taken as they are, and not to be changed."""

    def custom(made: Metadata[Root]) -> None:
        keyid = made.signed.roles["root"].keyids[0]
        made.signed.unrecognized_fields["custom-field"] = "value"
        made.signed.keys[keyid].unrecognized_fields["extra-field"] = {"a": 1, "b": 2}
        made.signed.roles["root"].unrecognized_fields["another-field"] = "value"

    sign_release(release, A.private)
    made = changed(custom)
    assert opened(release, made).version == 1
    made.signed.unrecognized_fields["custom-field"] = "another value"
    with pytest.raises(UntrustedError):
        opened(release, made)


def test_wrong_hashing_algorithm(release: Path) -> None:
    def wrong(made: Metadata[Root]) -> None:
        for key in made.signed.keys.values():
            key.unrecognized_fields["keyid_hash_algorithms"] = ["md5"]

    sign_release(release, A.private)
    assert opened(release, changed(wrong)).version == 1


def test_root_has_keys_but_not_snapshot(release: Path) -> None:
    """More signatures are wanted than keys are there, and then a key is only named."""
    made = tuf_root(1, Holders([A], 1), [], releases=Holders(people([0, 1, 2, 3]), 4))
    for person in people([0, 1, 2, 3]):
        sign_release(release, person.private)
    assert opened(release, signed(made.signed, [A])).version == 1
    made.signed.roles["targets"].threshold = 5
    with pytest.raises(MalformedError, match=r"role targets: .* from 1 to 4, .* got 5"):
        opened(release, signed(made.signed, [A]))
    made.signed.roles["targets"].keyids.append(PEOPLE[4].signer.public_key.keyid)
    with pytest.raises(MalformedError, match="role targets"):
        opened(release, signed(made.signed, [A]))


def test_snapshot_threshold(release: Path) -> None:
    for person in PEOPLE:
        sign_release(release, person.private)
    made = tuf_root(1, Holders([A], 1), [], releases=Holders(people([0, 1, 2, 3, 4]), 5))
    assert opened(release, signed(made.signed, [A])).version == 1
    made.signed.roles["targets"].threshold = 6
    with pytest.raises(MalformedError, match=r"role targets: .* from 1 to 5, .* got 6"):
        opened(release, signed(made.signed, [A]))


@pytest.mark.parametrize("role", ["root", "targets"])
def test_duplicate_keys_root(release: Path, role: str) -> None:
    """One key under ten ids, each of which signed, is one signer."""
    made = tuf_root(1, Holders([A, PEOPLE[1]], 2), [])
    twins = [under_another_id(A.signer.public_key, f"id {number}") for number in range(9)]
    for twin in twins:
        made.signed.add_key(twin, role)
    whole = signed(made.signed, [A] if role == "root" else people([0, 1]))
    for twin in twins:
        whole.sign(CryptoSigner(A.private._key, twin), append=True)
    sign_release(release, A.private)
    with pytest.raises(UntrustedError, match=f"signed by {A.key8}"):
        opened(release, whole)


def test_root_expired(release: Path) -> None:
    """The expired newest version counts, so that nothing is taken any more."""
    chain = {2: tuf_root(2, Holders([A], 1), [A], expires=PAST)}
    put(release, {version: root.to_bytes() for version, root in chain.items()})
    sign_release(release, A.private)
    with pytest.raises(StaleError, match="version 2 expired"):
        opened(release, tuf_root(1, Holders([A], 1), [A]))


def test_expired_metadata(release: Path) -> None:
    """A version that expired at the site may still prove the next one."""
    put(release, {2: tuf_root(2, Holders([A], 1), [A]).to_bytes()})
    sign_release(release, A.private)
    assert opened(release, tuf_root(1, Holders([A], 1), [A], expires=PAST)).version == 2


def chain_of_the_tool(folder: Path) -> list[bytes]:
    """Make three versions with the commands' functions: A, B, C; then B, C, D; then C, D, E."""
    one, *others = (folder / f"{version}.root.json" for version in (1, 2, 3))
    create_root(one, [person.public for person in PEOPLE[:3]], 2, LATER)
    sign_root(one, PEOPLE[0].private)
    sign_root(one, PEOPLE[1].private)
    before = one
    for number, path in enumerate(others, 3):
        next_root(before, None, LATER, None)
        add_key(path, PEOPLE[number].public, None)
        remove_key(path, PEOPLE[number - 3].public, None)
        for person in PEOPLE[number - 2 : number]:
            sign_root(path, person.private)
        before = path
    return [path.read_bytes() for path in (one, *others)]


def test_the_reference_clients_own_set_takes_the_chain_that_the_tool_makes(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    first, second, third = chain_of_the_tool(folder)
    theirs = TrustedMetadataSet(first, EnvelopeType.METADATA)
    for version, content in enumerate([second, third], 2):
        root = theirs.update_root(content)
        assert root.version == version
        ours = read_root(content, name="x")
        assert {key.key8 for key in ours.signers.keys} == {
            person.key8
            for person in PEOPLE
            if person.signer.public_key.keyid in root.roles["targets"].keyids
        }
        assert (ours.signers.threshold, ours.expires) == (root.roles["targets"].threshold, LATER)
    newer = follow(read_root(first, name="x"), ReleaseDirectory(folder))
    assert [root.content for root in newer] == [second, third]
    with pytest.raises(BadVersionNumberError):
        theirs.update_root(third)


@pytest.mark.parametrize("left", range(2))
def test_one_signature_less_is_refused_by_both(tmp_path: Path, left: int) -> None:
    """B and C signed version 2; with one of them alone nobody takes it, whoever is left."""
    folder = tmp_path / "trust"
    first, second, _ = chain_of_the_tool(folder)
    whole = json.loads(second)
    whole["signatures"] = [whole["signatures"][left]]
    alone = json.dumps(whole).encode()
    with pytest.raises(UnsignedMetadataError):
        TrustedMetadataSet(first, EnvelopeType.METADATA).update_root(alone)
    (folder / "3.root.json").unlink()
    (folder / "2.root.json").write_bytes(alone)
    with pytest.raises(UntrustedError, match="version 2: expected signatures by 2 of the 3 keys"):
        follow(read_root(first, name="x"), ReleaseDirectory(folder))


def test_a_version_left_out_is_refused_by_both(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    first, _, third = chain_of_the_tool(folder)
    with pytest.raises(RepositoryError):
        TrustedMetadataSet(first, EnvelopeType.METADATA).update_root(third)
    (folder / "2.root.json").unlink()
    with pytest.raises(UntrustedError, match="expected this version after 1"):
        follow(read_root(first, name="x"), ReleaseDirectory(folder))
