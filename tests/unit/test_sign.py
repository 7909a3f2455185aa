"""Making keys and signing: what is written, and what is never overwritten."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    CheckError,
    ConflictError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
)
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import encode_manifest
from bundler.model_signature import model_statement
from bundler.provenance import provenance_statement
from bundler.release import signature_name
from bundler.sign import add_signatures, create_keys, read_unsigned, sign_release
from bundler.signing.keys import PrivateKey, PublicKey, read_private_key, read_public_key
from bundler.signing.signers import Signer
from bundler.signing.sigstore_bundle import (
    attestation_bundle,
    read_attestation_bundle,
    read_message_bundle,
)
from bundler.sums import SUMS_NAME
from tests.unit.small_files import new_key, small_manifest, write_small_files

KEY = new_key()


@dataclass(slots=True)
class CountingSigner:
    """A key that counts what it signs, and may sign something else, or fail at the n-th time."""

    key: PrivateKey
    fails_at: int = 0
    wrong_at: int = 0
    times: int = 0

    @property
    def public(self) -> PublicKey:
        return self.key.public

    def sign(self, content: bytes) -> bytes:
        self.times += 1
        if self.times == self.fails_at:
            raise DeniedError("the token is gone")
        return self.key.sign(content + b"!" * (self.times == self.wrong_at))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_files(tmp_path / "release")


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def added(key: PublicKey) -> list[str]:
    """Name what a signature of the small release adds, as DESIGN.md and FORMAT.md write it."""
    return [
        f"SHA256SUMS.{key.key8}.sigstore.json",
        f"provenance.{key.key8}.sigstore.json",
        f"tiny_1.{key.key8}.oms.json",
        f"SHA256SUMS.{key.key8}.sig",
    ]


def sign_all(directory: Path, key: Signer) -> list[str]:
    return [path.name for path in add_signatures(read_unsigned(directory), key)]


def test_signatures_are_added_and_nothing_else_changes(release: Path) -> None:
    before = content_of(release)
    path = sign_release(release, KEY)
    assert path == release / signature_name(KEY.public.key8)
    assert KEY.public.verify(path.read_bytes(), before[SUMS_NAME])
    after = content_of(release)
    assert sorted(after.keys() - before.keys()) == sorted(added(KEY.public))
    assert after | before == after


def test_what_is_beside_the_signature_is_signed_by_the_same_key(release: Path) -> None:
    files = [release / name for name in sign_all(release, KEY)]
    message = read_message_bundle(files[0].read_bytes(), "message")
    assert message.holds(KEY.public, (release / SUMS_NAME).read_bytes())
    assert message.signature == files[-1].read_bytes()
    statements = [read_attestation_bundle(file.read_bytes(), file.name) for file in files[1:-1]]
    assert all(statement.holds(KEY.public) for statement in statements)
    unsigned = read_unsigned(release)
    assert [each.statement for each in statements] == [
        provenance_statement(unsigned.manifest, unsigned.sums),
        model_statement(unsigned.manifest.checkpoints[0]),
    ]


def test_the_signature_that_counts_is_written_last(release: Path) -> None:
    named: list[str] = []

    def note(event: str, details: tuple[object, ...]) -> None:
        if event == "os.rename" and str(release) in str(details[1]):
            named.append(Path(str(details[1])).name)

    sys.addaudithook(note)  # Python keeps it; it notes nothing of other tests
    assert sign_all(release, KEY) == added(KEY.public)
    assert named == added(KEY.public)


def test_three_people_sign_on_machines_of_their_own_in_any_order(
    release: Path, tmp_path: Path
) -> None:
    (release / "tiny_1.tar").write_bytes(b"weights that no signer has")
    before = content_of(release)
    keys = [KEY, new_key(), new_key()]
    desks = []
    for number, key in enumerate(keys):
        desk = tmp_path / f"desk {number}"
        desk.mkdir()
        for name in (SUMS_NAME, MANIFEST_NAME):
            shutil.copy(release / name, desk)
        sign_release(desk, key)
        assert {name: before[name] for name in (SUMS_NAME, MANIFEST_NAME)}.items() <= content_of(
            desk
        ).items()
        desks.append({path for path in desk.iterdir() if path.name not in before})
    for number, order in enumerate(permutations(desks)):
        place = Path(shutil.copytree(release, tmp_path / f"release {number}"))
        for desk_files in order:
            for file in desk_files:
                assert not (place / file.name).exists()
                shutil.copy(file, place)
        after = content_of(place)
        assert {name: after[name] for name in before} == before
        assert sorted(after.keys() - before.keys()) == sorted(
            name for key in keys for name in added(key.public)
        )
        for key in keys:
            signature = after[signature_name(key.public.key8)]
            assert key.public.verify(signature, before[SUMS_NAME])
            assert sign_all(place, key) == added(key.public)  # nothing is left to do
        assert content_of(place) == after


def test_to_sign_again_changes_nothing_and_signs_nothing(release: Path) -> None:
    sign_release(release, KEY)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in release.iterdir()}
    again = CountingSigner(KEY)
    sign_release(release, again)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in release.iterdir()}
    assert after == before
    assert again.times == 0


@pytest.mark.parametrize("number", [1, 2])
def test_what_another_version_of_this_program_signed_of_this_release_is_kept(
    release: Path, number: int
) -> None:
    """It may say more, or less: what it is about is the same."""
    sign_release(release, KEY)
    path = release / added(KEY.public)[number]
    said = json.loads(read_attestation_bundle(path.read_bytes(), "b").statement)
    said["predicate"]["of"] = "another version"
    newer = attestation_bundle(KEY.public, json.dumps(said).encode(), KEY.sign)
    path.write_bytes(newer)
    before = content_of(release)
    again = CountingSigner(KEY)
    sign_release(release, again)
    assert content_of(release) == before
    assert again.times == 0


@pytest.mark.parametrize("left", range(16))
def test_a_later_run_adds_what_is_missing_and_leaves_the_rest(release: Path, left: int) -> None:
    """Whatever subset a killed run, or a lossy copy, has left."""
    sign_release(release, KEY)
    for number, name in enumerate(added(KEY.public)):
        if not left & 1 << number:
            (release / name).unlink()
    before = content_of(release)
    sign_release(release, KEY)
    after = content_of(release)
    assert after | before == after
    assert sorted(after.keys() - {SUMS_NAME, MANIFEST_NAME}) == sorted(added(KEY.public))
    message = read_message_bundle(after[added(KEY.public)[0]], "message")
    assert message.signature == after[signature_name(KEY.public.key8)]


@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_key_that_fails_on_the_way_leaves_nothing_half_signed(release: Path, time: int) -> None:
    before = content_of(release)
    with pytest.raises(DeniedError, match="token is gone"):
        sign_release(release, CountingSigner(KEY, fails_at=time))
    assert content_of(release) == before


@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_signature_that_does_not_hold_is_never_written(release: Path, time: int) -> None:
    before = content_of(release)
    with pytest.raises(CheckError, match="does not hold"):
        sign_release(release, CountingSigner(KEY, wrong_at=time))
    assert content_of(release) == before


def write_other_release(directory: Path) -> Path:
    """Write what has the names of the small release, and other weights."""
    manifest, other = small_manifest(), Digest.of(b"other weights")
    [checkpoint] = manifest.checkpoints
    file = replace(checkpoint.files[0], digest=other, parts=(other,))
    manifest = replace(manifest, checkpoints=(replace(checkpoint, digest=other, files=(file,)),))
    content = encode_manifest(manifest)
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    return write_small_files(directory, content, sums | {MANIFEST_NAME: Digest.of(content)})


def foreign_signature(kind: str, number: int, desk: Path) -> bytes:
    """Give what may stand under the name of a signature, and is not it."""
    if kind in {"garbage", "nothing"}:
        return b"{" if kind == "garbage" else b""
    key = new_key() if kind == "another key's" else KEY
    make = write_other_release if kind == "another release's" else write_small_files
    sign_release(make(desk), key)
    return (desk / added(key.public)[number]).read_bytes()


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kind", ["another key's", "another release's", "garbage", "nothing"])
def test_another_signature_is_never_overwritten(
    release: Path, tmp_path: Path, number: int, kind: str
) -> None:
    """By a key with the same short name, of an older build, or junk."""
    path = release / added(KEY.public)[number]
    path.write_bytes(foreign_signature(kind, number, tmp_path / "desk"))
    before = content_of(release)
    with pytest.raises(ConflictError, match=re.escape(path.name)) as caught:
        sign_release(release, KEY)
    assert caught.value.exit_status == 7
    assert content_of(release) == before


@pytest.mark.parametrize("number", range(4))
def test_a_link_in_the_place_of_a_signature_is_not_followed(
    release: Path, tmp_path: Path, number: int
) -> None:
    path = release / added(KEY.public)[number]
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError, match="symbolic link"):
        sign_release(release, KEY)
    assert not (tmp_path / "elsewhere").exists()


def test_what_does_not_agree_is_not_signed(release: Path) -> None:
    (release / MANIFEST_NAME).write_bytes((release / MANIFEST_NAME).read_bytes() + b" ")
    key = CountingSigner(KEY)
    with pytest.raises(ContentError, match=MANIFEST_NAME):
        sign_release(release, key)
    assert not key.times
    assert not list(release.glob("*.sig*"))


@pytest.mark.parametrize("name", [SUMS_NAME, MANIFEST_NAME])
def test_signing_needs_both_small_files(release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        sign_release(release, KEY)


def test_the_private_half_is_encrypted_and_for_its_owner_only(tmp_path: Path) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pub"
    old = os.umask(0)
    try:
        made = create_keys(private, public, b"passphrase")
    finally:
        os.umask(old)
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert b"ENCRYPTED" in private.read_bytes()
    key = read_private_key(private.read_bytes(), b"passphrase", name="release.key")
    assert key.public == made == read_public_key(public.read_bytes(), name="release.pub")
    assert isinstance(made, PublicKey)


@pytest.mark.parametrize("taken", ["release.key", "release.pub"])
def test_keys_are_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"old")
    with pytest.raises(ConflictError, match=taken):
        create_keys(tmp_path / "release.key", tmp_path / "release.pub", None)
    assert content_of(tmp_path) == {taken: b"old"}
