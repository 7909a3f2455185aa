"""Whose signatures count: keys and thresholds, trust files, and chains of them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Key, Metadata, Root, Targets

from bundler.errors import BundleError, MalformedError, StaleError, UntrustedError
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.release_files import ReleaseDirectory
from bundler.sign import sign_release
from bundler.signing.keys import PublicKey, read_public_key
from bundler.signing.quorum import Quorum
from bundler.signing.tuf_roots import MAX_ROOT_BYTES, read_root, write_root
from bundler.sums import SUMS_NAME
from bundler.trust import NOBODY, Trust, follow, is_trust_path
from bundler.verify import verify_path
from tests.roots import (
    Holders,
    Person,
    new_person,
    newest_by_their_client,
    put,
    signed,
    tuf_root,
    under_another_id,
)
from tests.small_release import make_release
from tests.unit.small_files import write_small_files

PEOPLE = [new_person() for _ in range(10)]
A, B, C, D = PEOPLE[:4]
STRANGER = new_person()
NOW = "2026-11-20T00:00:00Z"


def trust_in(content: bytes, *, now: str = NOW) -> Trust:
    return Trust.of_root(read_root(content, name="vendor.json"), now=now)


def root(
    version: int, people: list[Person], threshold: int, by: list[Person], **more: object
) -> bytes:
    made = tuf_root(version, Holders(people, threshold), by, **more)  # type: ignore[arg-type]
    return made.to_bytes()


def write_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_files(tmp_path / "release")


def sign(release: Path, *people: Person) -> Path:
    for person in people:
        sign_release(release, person.private)
    return release


# Keys and thresholds


def test_one_signer_short_says_who_signed_and_of_whom_more_are_needed(release: Path) -> None:
    trust = Trust.of_keys([A.public, B.public, C.public], 2)
    sign(release, B)
    others = ", ".join(sorted([A.key8, C.key8]))
    with pytest.raises(UntrustedError) as caught:
        open_release(release, trust)
    assert "\n" not in str(caught.value)
    assert "by 2 of 3 keys, got 1" in str(caught.value)
    assert f"signed by {B.key8}; 1 more of {others} needed" in str(caught.value)
    sign(release, A)
    assert open_release(release, trust).signatures == tuple(sorted([A.key8, B.key8]))


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_as_many_as_the_threshold_says_must_sign(release: Path, threshold: int) -> None:
    trust = Trust.of_keys([A.public, B.public, C.public], threshold)
    for number, person in enumerate([C, A, B], 1):
        sign(release, person)
        if number < threshold:
            with pytest.raises(UntrustedError):
                open_release(release, trust)
        else:
            assert len(open_release(release, trust).signatures) == number


def test_a_key_counts_once_however_it_is_written() -> None:
    text = A.public.pem.decode()
    written = [text, text.replace("\n", "\r\n"), f"\n{text}\n", compressed(A.public)]
    keys = [read_public_key(pem.encode(), name="pub") for pem in written]
    assert Trust.of_keys(keys).signers.keys == (A.public,)
    with pytest.raises(MalformedError, match=r"from 1 to 1, .*, got 2") as caught:
        Trust.of_keys(keys, 2)
    assert "twice" in str(caught.value.hint)


def compressed(key: PublicKey) -> str:
    """Write a key with its point in the short form."""
    point = load_pem_public_key(key.pem).public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    body = algorithm + bytes([3, len(point) + 1, 0]) + point
    text = base64.b64encode(bytes([0x30, len(body)]) + body).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"


def test_two_signatures_of_one_key_are_one(release: Path) -> None:
    sign(release, A)
    sums = (release / SUMS_NAME).read_bytes()
    for number in range(3):
        path = release / signature_name(f"{number:08x}")
        path.write_bytes(A.private.sign(sums))
    with pytest.raises(UntrustedError, match=f"signed by {A.key8}; 1 more of {B.key8} needed"):
        open_release(release, Trust.of_keys([A.public, B.public], 2))


def test_whoever_is_not_trusted_does_not_count(release: Path) -> None:
    sign(release, A, STRANGER, C)
    with pytest.raises(UntrustedError, match="got 1: "):
        open_release(release, Trust.of_keys([A.public, B.public], 2))


@pytest.mark.parametrize("threshold", [0, -1, 3])
def test_a_threshold_that_nobody_can_meet_is_refused_at_once(threshold: int) -> None:
    with pytest.raises(MalformedError, match="expected a threshold from 1 to 2"):
        Trust.of_keys([A.public, B.public], threshold)


def test_nobody_is_trusted_where_nothing_was_given(release: Path) -> None:
    assert not NOBODY
    assert not Trust.of_keys([])
    with pytest.raises(UntrustedError, match="no public key was given"):
        open_release(sign(release, A), NOBODY)


# One trust file


def test_a_file_that_python_tuf_wrote_is_read(release: Path) -> None:
    content = root(7, [A, B, C], 2, [A, C], expires=datetime(2027, 5, 1, 12, tzinfo=UTC))
    read = read_root(content, name="vendor.json")
    assert (read.version, read.expires) == (7, "2027-05-01T12:00:00Z")
    assert read.holders == read.signers == Quorum.of([A.public, B.public, C.public], 2, name="x")
    trust = trust_in(content)
    assert (trust.version, trust.news) == (7, None)
    assert open_release(sign(release, B, C), trust).trust.version == 7


def test_a_file_that_we_wrote_is_read_and_verified_by_python_tuf(tmp_path: Path) -> None:
    quorum = Quorum.of([A.public, B.public, C.public], 2, name="x")
    content = write_root(1, quorum, "2030-01-01T00:00:00Z")
    for person in (C, A):
        read = read_root(content, name="x")
        content = read.with_signature(
            read.ids_of(person.public), person.private.sign(read.signed_bytes)
        )
    theirs: Metadata[Root] = Metadata.from_bytes(content)
    theirs.signed.verify_delegate("root", theirs.signed_bytes, theirs.signatures)
    assert theirs.signed.expires == datetime(2030, 1, 1, tzinfo=UTC)
    assert {len(role.keyids) for role in theirs.signed.roles.values()} == {3}
    assert {role.threshold for role in theirs.signed.roles.values()} == {2}
    assert set(theirs.signed.keys) == {
        SSlibKey.from_crypto(load_pem_public_key(person.public.pem)).keyid for person in (A, B, C)
    }
    folder = put(tmp_path, {1: content})
    assert newest_by_their_client(content, folder, tmp_path / "client") == (content, False)


@pytest.mark.parametrize("by", [[], [A], [A, STRANGER]])
def test_a_file_that_too_few_signed_is_a_draft(by: list[Person]) -> None:
    with pytest.raises(UntrustedError, match=r"version 1: expected signatures by 2 of the 3 keys"):
        trust_in(root(1, [A, B, C], 2, by))


def _twice_listed(threshold: int, by: list[Person]) -> Metadata[Root]:
    """List A's key under two ids in every role, and sign under both."""
    made = tuf_root(1, Holders([A, B], threshold), by)
    again = under_another_id(A.signer.public_key, "another id")
    for role in made.signed.roles:
        made.signed.add_key(again, role)
    made = signed(made.signed, by)
    twin = CryptoSigner(A.private._key, again)
    made.sign(twin, append=True)
    return made


def test_a_key_under_two_ids_counts_once_though_python_tuf_counts_both(release: Path) -> None:
    made = _twice_listed(2, [A])
    theirs = made.signed.get_verification_result("root", made.signed_bytes, made.signatures)
    assert theirs.verified
    with pytest.raises(UntrustedError, match=f"signed by {A.key8}; 1 more of {B.key8} needed"):
        trust_in(made.to_bytes())
    trust = trust_in(_twice_listed(2, [A, B]).to_bytes())
    assert trust.signers.keys == Quorum.of([A.public, B.public], 2, name="x").keys
    with pytest.raises(UntrustedError, match=f"signed by {A.key8}; 1 more of {B.key8} needed"):
        open_release(sign(release, A), trust)
    assert open_release(sign(release, B), trust).trust == trust


def test_a_threshold_that_needs_one_key_twice_is_refused_and_says_why() -> None:
    with pytest.raises(MalformedError, match=r"role root: .* from 1 to 2, .* got 3") as caught:
        trust_in(_twice_listed(3, [A, B]).to_bytes())
    assert "twice" in str(caught.value.hint)


def _key_of(private: object) -> Key:
    return SSlibKey.from_crypto(private.public_key())  # type: ignore[attr-defined]


@pytest.mark.parametrize("role", ["root", "targets"])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(_key_of(ed25519.Ed25519PrivateKey.generate()), id="ed25519"),
        pytest.param(_key_of(rsa.generate_private_key(65537, 2048)), id="RSA"),
        pytest.param(_key_of(ec.generate_private_key(ec.SECP384R1())), id="P-384"),
        pytest.param(
            Key.from_dict(
                "0" * 64,
                {
                    "keytype": "ecdsa",
                    "scheme": "ecdsa-sha2-nistp256",
                    "keyval": _key_of(ec.generate_private_key(ec.SECP384R1())).keyval,
                },
            ),
            id="P-384 that says P-256",
        ),
        pytest.param(
            Key.from_dict(
                "1" * 64,
                {
                    "keytype": "ecdsa",
                    "scheme": "ecdsa-sha2-nistp384",
                    "keyval": _key_of(ec.generate_private_key(ec.SECP256R1())).keyval,
                },
            ),
            id="P-256 with SHA-384",
        ),
    ],
)
def test_another_kind_of_key_is_refused(role: str, key: Key) -> None:
    made = tuf_root(1, Holders([A], 1), [A])
    made.signed.add_key(key, role)
    with pytest.raises(MalformedError, match=rf"role {role}: key {key.keyid[:16]}: expected "):
        trust_in(signed(made.signed, [A]).to_bytes())


def test_a_key_that_is_named_and_not_there_is_refused() -> None:
    made = tuf_root(1, Holders([A], 1), [A])
    made.signed.roles["targets"].keyids.append("\x1b[2Jnowhere")
    with pytest.raises(MalformedError, match="got none of this id") as caught:
        trust_in(signed(made.signed, [A]).to_bytes())
    assert "\x1b" not in str(caught.value)


def _changed(change: Callable[[dict[str, object]], object]) -> bytes:
    whole = json.loads(root(1, [A], 1, [A]))
    change(whole)
    return write_json(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"[]", "expected a mapping", id="a list"),
        pytest.param(b"{}", "not TUF root metadata", id="nothing in it"),
        pytest.param(b"[" * 5000, "nested too deep", id="nested"),
        pytest.param(b" " * (MAX_ROOT_BYTES + 1), f"at most {MAX_ROOT_BYTES} bytes", id="long"),
        pytest.param(
            root(1, [A], 1, [A]).replace(b'"version":1', b'"version":1,"version":1'),
            "stands there twice",
            id="a key twice",
        ),
        pytest.param(
            root(1, [A], 1, [A]).replace(b'"version":1', b'"version":1.0'),
            "not an integer",
            id="a float",
        ),
        pytest.param(
            root(1, [A], 1, [A]).replace(b'"version":1', b'"version":0'),
            "not TUF root metadata: ValueError",
            id="version 0",
        ),
        pytest.param(
            _changed(lambda whole: whole.pop("signatures")),
            "not TUF root metadata: KeyError",
            id="no signatures",
        ),
        pytest.param(
            _changed(lambda whole: whole["signatures"].append(whole["signatures"][0])),  # type: ignore[attr-defined, index]
            "Multiple signatures",
            id="a signature twice",
        ),
        pytest.param(
            _changed(lambda whole: whole["signed"].update(spec_version="2.0.0")),  # type: ignore[attr-defined]
            "not TUF root metadata: ValueError",
            id="a later TUF",
        ),
        pytest.param(
            _changed(lambda whole: whole["signed"].update(expires="tomorrow")),  # type: ignore[attr-defined]
            "not TUF root metadata: ValueError",
            id="no time",
        ),
        pytest.param(Metadata(Targets()).to_bytes(), "got targets", id="another role"),
        pytest.param(A.public.pem, "not JSON", id="a public key"),
    ],
)
def test_what_is_no_trust_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as caught:
        trust_in(content)
    assert str(caught.value).startswith("vendor.json: ")
    assert "\n" not in str(caught.value)


def test_every_flip_of_a_signature_is_refused() -> None:
    whole = json.loads(root(1, [A], 1, [A]))
    signature = bytes.fromhex(whole["signatures"][0]["sig"])
    flipped = [(signature[:-1] + bytes([signature[-1] ^ 1 << bit])).hex() for bit in range(8)]
    for text in (*flipped, "", "zz", "é", signature.hex()[:-1]):
        changed = {**whole, "signatures": [{**whole["signatures"][0], "sig": text}]}
        with pytest.raises(UntrustedError):
            trust_in(write_json(changed))


def test_who_holds_the_file_and_who_signs_releases_may_differ(release: Path) -> None:
    content = root(1, [A], 1, [A], releases=Holders([B, C], 2))
    with pytest.raises(UntrustedError):
        open_release(sign(release, A), trust_in(content))
    assert open_release(sign(release, B, C), trust_in(content)).trust.version == 1


# Chains: the cases of tuf-conformance for root rotation, by their names. Each version is
# (who holds it, threshold, who signs it); "refused" is the last one.
ROTATIONS: dict[str, tuple[bool, list[tuple[list[int], int, list[int]]]]] = {
    "1-of-1-key-rotation": (True, [([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])]),
    "1-of-1-key-rotation-unused-signatures": (
        True,
        [([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4]), ([2], 1, [3, 2, 4])],
    ),
    "3-of-5-sign-with-different-keycombos": (
        True,
        [
            ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
            ([0, 1, 2, 3, 4], 3, [0, 4, 1]),
            ([0, 1, 2, 3, 4], 3, [0, 1, 3]),
            ([0, 1, 2, 3, 4], 3, [0, 1, 3]),
        ],
    ),
    "3-of-5-one-key-rotated": (
        True,
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 1])],
    ),
    "3-of-5-one-key-rotated-with-intermediate-step": (
        True,
        [
            ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
            ([0, 1, 3, 4, 5], 3, [0, 2, 4, 5]),
            ([0, 1, 3, 4, 5], 3, [0, 4, 5]),
        ],
    ),
    "3-of-5-all-keys-rotated-with-intermediate-step": (
        True,
        [
            ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
            ([5, 6, 7, 8, 9], 3, [0, 2, 4, 5, 6, 7]),
            ([5, 6, 7, 8, 9], 3, [5, 6, 7]),
        ],
    ),
    "1-of-3-threshold-increase-to-2-of-3": (True, [([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])]),
    "2-of-3-threshold-decrease-to-1-of-3": (
        True,
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1, 2]), ([1, 2, 3], 1, [1])],
    ),
    "1-of-2-threshold-increase-to-2-of-2": (True, [([1], 1, [1]), ([1, 2], 2, [1, 2])]),
    "1-of-1-key-rotation-fail-not-signed-with-old-key": (
        False,
        [([1], 1, [1]), ([2], 1, [2, 3, 4])],
    ),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": (
        False,
        [([1], 1, [1]), ([2], 1, [1, 3, 4])],
    ),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys": (
        False,
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 2, 4])],
    ),
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys": (
        False,
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 5])],
    ),
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": (
        False,
        [([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [2])],
    ),
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached": (
        False,
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1])],
    ),
}


@pytest.mark.parametrize(("good", "versions"), ROTATIONS.values(), ids=ROTATIONS.keys())
def test_root_rotation_ends_where_the_reference_client_ends(
    tmp_path: Path, release: Path, good: bool, versions: list[tuple[list[int], int, list[int]]]
) -> None:
    chain = {
        number: root(number, [PEOPLE[i] for i in keys], threshold, [PEOPLE[i] for i in by])
        for number, (keys, threshold, by) in enumerate(versions, 1)
    }
    folder = put(release, chain)
    newest, refused = newest_by_their_client(chain[1], folder, tmp_path / "client")
    assert (newest == chain[len(chain)], refused) == (good, not good)
    trust = trust_in(chain[1])
    sign(release, *PEOPLE)
    if good:
        judged = open_release(release, trust).trust
        assert judged.root is not None
        assert judged.root.content == newest
        assert judged.signers == read_root(newest, name="x").signers
        assert f"version {len(chain)} of the trust file" in str(judged.news)
    else:
        with pytest.raises(UntrustedError, match=rf"trust/{len(chain)}\.root\.json: "):
            open_release(release, trust)


def test_a_site_that_skipped_five_releases_catches_up_by_one(release: Path) -> None:
    teams = [PEOPLE[i : i + 3] for i in range(7)]
    chain = {1: root(1, teams[0], 2, teams[0])}
    for version in range(2, 8):
        before, now = teams[version - 2], teams[version - 1]
        chain[version] = root(version, now, 2, [*before[1:], now[-1]])
    put(release, chain)
    sign(release, *teams[6][:2])
    assert open_release(release, trust_in(chain[1])).trust.version == 7
    assert open_release(release, trust_in(chain[5])).trust.version == 7
    assert open_release(release, trust_in(chain[7])).trust.news is None


@pytest.fixture
def rotated(release: Path) -> dict[int, bytes]:
    """Give a release three versions: A and B, then B and C, then C and D; C and D signed it."""
    chain = {
        1: root(1, [A, B], 2, [A, B]),
        2: root(2, [B, C], 2, [A, B, C]),
        3: root(3, [C, D], 2, [B, C, D]),
    }
    put(release, chain)
    sign(release, C, D)
    return chain


def judged_by(release: Path, content: bytes, *, now: str = NOW) -> TrustedRelease:
    return open_release(release, trust_in(content, now=now))


def test_a_retired_key_counts_no_more(release: Path, rotated: dict[int, bytes]) -> None:
    assert judged_by(release, rotated[1]).trust.version == 3
    for path in release.glob("*.sig"):
        path.unlink()
    sign(release, A, B)
    for content in rotated.values():
        with pytest.raises(UntrustedError, match="expected signatures by 2 of the keys"):
            judged_by(release, content)


def test_a_release_of_before_a_rotation_is_judged_by_the_keys_of_now(
    release: Path, rotated: dict[int, bytes]
) -> None:
    (release / "trust" / "3.root.json").unlink()
    for path in release.glob("*.sig"):
        path.unlink()
    sign(release, B, C)
    assert judged_by(release, rotated[1]).trust.version == 2
    with pytest.raises(UntrustedError, match=f"1 more of {D.key8} needed"):
        judged_by(release, rotated[3])
    sign(release, D)  # whoever still wants it signs it again, with the keys of now
    assert judged_by(release, rotated[3]).trust.version == 3


def test_a_gap_in_the_chain_is_refused(release: Path, rotated: dict[int, bytes]) -> None:
    (release / "trust" / "2.root.json").unlink()
    with pytest.raises(UntrustedError, match=r"2\.root\.json: expected this version after 1, got"):
        judged_by(release, rotated[1])
    assert judged_by(release, rotated[2]).trust.version == 3


def test_a_fork_is_refused_even_where_the_next_version_holds(
    release: Path, rotated: dict[int, bytes]
) -> None:
    other = root(1, [A, B], 2, [A, B], expires=datetime(2080, 1, 1, tzinfo=UTC))
    put(release, {1: other})
    with pytest.raises(UntrustedError, match=r"1\.root\.json: expected the version 1 that vendor"):
        judged_by(release, rotated[1])


def test_more_signatures_under_the_same_version_are_no_fork(
    release: Path, rotated: dict[int, bytes]
) -> None:
    more = tuf_root(1, Holders([A, B], 2), [B, A, STRANGER])
    put(release, {1: more.to_bytes()})
    assert judged_by(release, rotated[1]).trust.version == 3


def test_a_file_called_after_another_version_is_refused(
    release: Path, rotated: dict[int, bytes]
) -> None:
    put(release, {2: rotated[3], 3: rotated[3]})
    with pytest.raises(UntrustedError, match=r"2\.root\.json: expected version 2, got version 3"):
        judged_by(release, rotated[1])


def test_a_chain_of_somebody_else_is_refused(release: Path, rotated: dict[int, bytes]) -> None:
    """The release brings a first version of its own, sound in itself, and is signed by its key."""
    put(release, {1: root(1, [STRANGER], 1, [STRANGER]), 2: root(2, [STRANGER], 1, [STRANGER])})
    (release / "trust" / "3.root.json").unlink()
    sign(release, STRANGER)
    for content in (rotated[1], rotated[2]):
        with pytest.raises(UntrustedError):
            judged_by(release, content)
    (release / "trust" / "1.root.json").unlink()
    with pytest.raises(UntrustedError, match="expected signatures by 2 of the 2 keys of version 1"):
        judged_by(release, rotated[1])


def test_keys_that_were_given_stay_whatever_the_release_brings(
    release: Path, rotated: dict[int, bytes]
) -> None:
    assert rotated
    assert open_release(release, Trust.of_keys([C.public])).trust.version == 0
    with pytest.raises(UntrustedError):
        open_release(release, Trust.of_keys([A.public, B.public]))
    with pytest.raises(UntrustedError, match="no public key was given"):
        open_release(release, NOBODY)


def test_a_chain_alone_vouches_for_nothing(release: Path, rotated: dict[int, bytes]) -> None:
    for path in release.glob("*.sig"):
        path.unlink()
    with pytest.raises(UntrustedError, match="got no signature"):
        judged_by(release, rotated[1])


def test_without_any_one_file_nothing_weaker_is_enough(
    release: Path, rotated: dict[int, bytes]
) -> None:
    """Remove each file in turn: what is accepted then was accepted by the same keys before."""
    accepted = []
    for path in sorted(path for path in release.rglob("*") if path.is_file()):
        kept = path.read_bytes()
        path.unlink()
        for version, content in rotated.items():
            try:
                judged = judged_by(release, content)
            except BundleError:
                continue
            accepted.append((path.name, version))
            assert set(judged.signers) == {C.public, D.public}
            assert judged.trust.version == 3
        path.write_bytes(kept)
    # Nobody needs a version that lies before the one that he has, nor that one itself; and no
    # judgement rests on what is there for other people's tools.
    foreign = (".sigstore.json", ".oms.json")
    assert sorted(item for item in accepted if not item[0].endswith(foreign)) == [
        ("1.root.json", 1),
        ("1.root.json", 2),
        ("1.root.json", 3),
        ("2.root.json", 2),
        ("2.root.json", 3),
        ("3.root.json", 3),
    ]


def test_without_the_whole_folder_the_operators_own_file_judges(
    release: Path, rotated: dict[int, bytes]
) -> None:
    shutil.rmtree(release / "trust")
    assert judged_by(release, rotated[3]).trust.news is None
    for version in (1, 2):
        with pytest.raises(UntrustedError):
            judged_by(release, rotated[version])


@pytest.mark.parametrize("expired", [1, 2])
def test_only_the_newest_versions_expiry_counts(
    release: Path, rotated: dict[int, bytes], expired: int
) -> None:
    past = datetime(2026, 1, 1, tzinfo=UTC)
    first = root(1, [A, B], 2, [A, B], expires=past if expired == 1 else datetime.max)
    second = root(2, [B, C], 2, [A, B, C], expires=past)
    put(release, {1: first, 2: second})
    assert judged_by(release, first).trust.version == 3
    (release / "trust" / "3.root.json").unlink()
    with pytest.raises(StaleError, match=r"version 2 expired at 2026-01-01T00:00:00Z, and it is"):
        judged_by(release, first)
    assert rotated


@pytest.mark.parametrize(
    ("now", "stale"),
    [
        ("2027-04-30T23:59:59Z", False),
        ("2027-05-01T00:00:00Z", True),
        ("2030-01-01T00:00:00Z", True),
    ],
)
def test_an_expired_trust_file_is_refused_also_where_an_expired_release_is_allowed(
    tmp_path: Path, now: str, stale: bool
) -> None:
    directory = tmp_path / "whole"
    make_release(directory)
    sign(directory, A)
    trust = trust_in(root(1, [A], 1, [A], expires=datetime(2027, 5, 1, tzinfo=UTC)), now=now)
    if not stale:
        assert verify_path(directory, trust, now=now)
        return
    with pytest.raises(StaleError, match=r"vendor\.json: version 1 expired") as caught:
        verify_path(directory, trust, now=now, allow_expired=True)
    assert "--allow-expired is for releases only" in str(caught.value.hint)


def test_a_trust_file_without_a_time_to_judge_it_by_is_expired(release: Path) -> None:
    given = read_root(root(1, [A], 1, [A]), name="vendor.json")
    with pytest.raises(StaleError):
        open_release(sign(release, A), Trust(signers=given.signers, given=given))


def test_a_link_in_the_place_of_the_folder_or_a_version_is_refused(
    release: Path, rotated: dict[int, bytes]
) -> None:
    folder = release / "trust"
    moved = folder.rename(release.parent / "elsewhere")
    folder.symlink_to(moved)
    with pytest.raises(MalformedError, match="trust: expected a directory, got a symbolic link"):
        judged_by(release, rotated[1])
    folder.unlink()
    moved.rename(folder)
    (folder / "2.root.json").rename(release.parent / "2")
    (folder / "2.root.json").symlink_to(release.parent / "2")
    with pytest.raises(MalformedError, match=r"2\.root\.json: expected a regular file"):
        judged_by(release, rotated[1])


def test_a_version_that_is_large_is_not_read(release: Path, rotated: dict[int, bytes]) -> None:
    with (release / "trust" / "2.root.json").open("r+b") as file:
        file.truncate(MAX_ROOT_BYTES + 1)
    with pytest.raises(MalformedError, match=rf"2\.root\.json: expected at most {MAX_ROOT_BYTES}"):
        judged_by(release, rotated[1])


def test_too_many_versions_are_refused_before_one_is_read(
    release: Path, rotated: dict[int, bytes]
) -> None:
    for version in range(4, 1026):
        (release / "trust" / f"{version}.root.json").touch()
    with pytest.raises(MalformedError, match="expected at most 1024 trust files, got 1025"):
        judged_by(release, rotated[1])


def test_no_flip_of_a_version_makes_another_one_accepted(release: Path) -> None:
    first, second = root(1, [A], 1, [A]), root(2, [B], 1, [A, B])
    given, folder = read_root(first, name="vendor.json"), put(release, {2: second})
    signed_bytes = read_root(second, name="x").signed_bytes
    refused = 0
    for position in range(len(second)):
        flipped = bytearray(second)
        flipped[position] ^= 0x20 if position % 2 else 1
        put(release, {2: bytes(flipped)})
        try:
            [newest] = follow(given, ReleaseDirectory(folder))
        except (MalformedError, UntrustedError):
            refused += 1
        else:
            assert newest.signed_bytes == signed_bytes  # such as a letter of a signature's hex
    assert refused > len(second) * 0.8


@pytest.mark.parametrize(
    "name", ["02.root.json", "0.root.json", "4.root.json.bak", "4.snapshot.json"]
)
def test_other_names_in_the_folder_are_not_read_and_told(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "whole"
    make_release(directory)
    put(directory, {1: root(1, [A], 1, [A])})
    (directory / "trust" / name).write_bytes(b"anything")
    sign(directory, A)
    trust = trust_in(root(1, [A], 1, [A]))
    report = verify_path(directory, trust, now=NOW)
    assert report
    assert report.extra == (f"trust/{name}",)
    assert not verify_path(directory, trust, now=NOW, strict=True)
    (directory / "trust" / name).unlink()
    assert verify_path(directory, trust, now=NOW, strict=True)
    assert not is_trust_path(f"trust/{name}")


def test_versions_are_followed_to_the_one_that_is_asked_for(
    release: Path, rotated: dict[int, bytes]
) -> None:
    first = read_root(rotated[1], name="first")
    assert follow(first, None) == ()
    [second] = follow(first, ReleaseDirectory(release / "trust"), last=2)
    assert second.content == rotated[2]
