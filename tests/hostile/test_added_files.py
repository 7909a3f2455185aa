"""What stands beside a signed release, as `bundle sign` and `bundle trust attach` wrote it.

Sigstore bundles, provenance and model signatures decide nothing, so no change of them takes a
release away or makes one trusted, and `verify` tells every change but one of a hint. The chain of
trust files decides: no change of it makes anybody trusted.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.signing.tuf_roots import read_root
from tests.hostile.added_flips import AddedFlips, flip, judged, tried
from tests.hostile.limited import Place, require_clean
from tests.integration.signing import bundle
from tests.small_release import make_release

WORKERS = 2
# Every byte of the small ones; of the others one of so many, as a release is opened for each.
THIN = 7
BUNDLES = (
    "SHA256SUMS.{}.sigstore.json",
    "provenance.{}.sigstore.json",
    "tiny_2026.10.{}.oms.json",
)
OLDEST, NEWEST = "trust/1.root.json", "trust/2.root.json"


@dataclass(frozen=True)
class Signer:
    """Somebody with a key, in files."""

    private: PrivateKey
    file: Path
    public_file: Path

    @property
    def key8(self) -> str:
        return self.private.public.key8


@dataclass(frozen=True)
class Real:
    """A release and its chain of trust files, all made by the command.

    Attributes:
        release: Signed by ``new``, whom version 2 names in the place of ``old``.
        trust: Version 1, as the operator has it.
        old, new: Who may sign releases by version 1, and by version 2.
        stranger: Nobody.
    """

    release: Path
    trust: Path
    old: Signer
    new: Signer
    stranger: Signer

    def by_key(self, path: str, signer: Signer) -> AddedFlips:
        return AddedFlips(self.release, signer.public_file.read_bytes(), False, path, 0, 1)

    def by_file(self, path: str, release: Path) -> AddedFlips:
        return AddedFlips(release, self.trust.read_bytes(), True, path, 0, 1)


def new_signer(directory: Path, name: str) -> Signer:
    private, public = new_key_pair(None)
    file, public_file = directory / f"{name}.pem", directory / f"{name}.pub"
    file.write_bytes(private)
    public_file.write_bytes(public)
    return Signer(read_private_key(private, None, name=name), file, public_file)


def run(*words: str | Path) -> None:
    done = bundle(*words)
    assert done.returncode == 0, done.stderr


def rotated(directory: Path, old: Signer, new: Signer, *signers: Signer) -> Path:
    """Write version 1, and a version 2 that some have signed, in which ``new`` is for ``old``."""
    directory.mkdir()
    first, second = directory / "1.root.json", directory / "2.root.json"
    way = ("--threshold", "1", "--expires", "2090-01-01")
    run("trust", "init", "-o", first, "--key", old.public_file, *way)
    run("trust", "sign", first, "--key", old.file)
    run("trust", "rotate", first, "--expires", "2090-01-01")
    run("trust", "add-key", second, "--key", new.public_file)
    run("trust", "remove-key", second, "--key", old.public_file)
    for signer in signers:
        run("trust", "sign", second, "--key", signer.file)
    return second


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    work = tmp_path_factory.mktemp("added")
    old, new, stranger = (new_signer(work, name) for name in ("old", "new", "stranger"))
    make_release(work / "release")
    second = rotated(work / "chain", old, new, old, new)
    run("sign", work / "release", "--key", new.file)
    run("trust", "attach", second, work / "release")
    return Real(work / "release", work / "chain" / "1.root.json", old, new, stranger)


def try_all(flips: AddedFlips, thin: int = 1) -> tuple[int, set[int], set[int]]:
    """Try every byte, or one of so many, on several cores."""
    shares = [replace(flips, first=n * thin, step=WORKERS * thin) for n in range(WORKERS)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        results = list(pool.map(tried, shares))
    accepted = {offset for _, some, _ in results for offset in some}
    untold = {offset for _, _, some in results for offset in some}
    return sum(count for count, _, _ in results), accepted, untold


def test_all_that_the_command_wrote_holds(real: Real) -> None:
    for path in (*BUNDLES, OLDEST, NEWEST):
        assert (real.release / path.format(real.new.key8)).exists()
    assert judged(real.release, real.by_key(OLDEST, real.new).trust()) == (True, "")
    assert judged(real.release, real.by_file(OLDEST, real.release).trust()) == (True, "")
    assert not judged(real.release, real.by_key(OLDEST, real.stranger).trust())[0]


@pytest.mark.parametrize("name", BUNDLES)
def test_62_every_flip_of_a_sigstore_bundle_is_told_and_takes_nothing_away(
    real: Real, name: str
) -> None:
    path = name.format(real.new.key8)
    content = (real.release / path).read_bytes()
    thin = 1 if name is BUNDLES[0] else THIN
    count, accepted, untold = try_all(real.by_key(path, real.new), thin)
    assert accepted == set(range(0, len(content), thin))
    assert len(accepted) == count
    # Nobody signs a hint, and it may be any text: it only says which key to try.
    hint = json.loads(content)["verificationMaterial"]["publicKey"]["hint"].encode()
    at = content.index(hint)
    assert untold <= set(range(at, at + len(hint)))


Fields = dict[str, Any]
Edit = Callable[[Fields], object]


def edited(edit: Edit) -> Callable[[bytes], bytes]:
    """Change a bundle as plain JSON."""

    def change(content: bytes) -> bytes:
        fields = json.loads(content)
        edit(fields)
        return json.dumps(fields).encode()

    return change


def message(fields: Fields) -> Fields:
    return fields["messageSignature"]  # type: ignore[no-any-return]


def envelope(fields: Fields) -> Fields:
    return fields["dsseEnvelope"]  # type: ignore[no-any-return]


def material(fields: Fields) -> Fields:
    return fields["verificationMaterial"]  # type: ignore[no-any-return]


def swap_kinds(fields: Fields) -> None:
    fields["messageSignature"] = fields.pop("dsseEnvelope")


# Which bundle, what it is, and what becomes of it.
FIELDS: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    (BUNDLES[0], "older media type", lambda b: b.replace(b"v0.3+json", b"+json;version=0.1")),
    (BUNDLES[0], "no media type", edited(lambda f: f.pop("mediaType"))),
    (BUNDLES[0], "another algorithm", lambda b: b.replace(b"SHA2_256", b"SHA2_384")),
    (
        BUNDLES[0],
        "digest of another file",
        edited(lambda f: message(f)["messageDigest"].update(digest="A" * 43 + "=")),
    ),
    (
        BUNDLES[0],
        "digest in hex",
        edited(lambda f: message(f)["messageDigest"].update(digest="0" * 64)),
    ),
    (BUNDLES[0], "no digest", edited(lambda f: message(f).pop("messageDigest"))),
    (BUNDLES[0], "empty signature", edited(lambda f: message(f).update(signature=""))),
    (
        BUNDLES[0],
        "signature with white space",
        edited(lambda f: message(f).update(signature=message(f)["signature"] + "\n")),
    ),
    (
        BUNDLES[0],
        "certificate in the place of the key",
        edited(lambda f: f.update(verificationMaterial={"certificate": {"rawBytes": "AAAA"}})),
    ),
    (
        BUNDLES[0],
        "entry of a log",
        edited(lambda f: material(f).update(tlogEntries=[{"logIndex": "1"}])),
    ),
    (
        BUNDLES[0],
        "time stamp",
        edited(lambda f: material(f).update(timestampVerificationData={})),
    ),
    (BUNDLES[0], "field twice", lambda b: b.replace(b"{", b'{"mediaType": "x", ', 1)),
    (BUNDLES[0], "both kinds", edited(lambda f: f.update(dsseEnvelope={}))),
    (BUNDLES[0], "deep", lambda _: b"[" * 100_000),
    (BUNDLES[0], "of 100 MiB", lambda _: bytes(100 << 20)),
    (BUNDLES[0], "name that moves the cursor", edited(lambda f: f.update({"\x1b[2J\u202e": 1}))),
    (BUNDLES[1], "another payload type", lambda b: b.replace(b"vnd.in-toto+json", b"json")),
    (BUNDLES[1], "no signature", edited(lambda f: envelope(f).update(signatures=[]))),
    (
        BUNDLES[1],
        "signature twice",
        edited(lambda f: envelope(f).update(signatures=envelope(f)["signatures"] * 2)),
    ),
    (
        BUNDLES[1],
        "id of a key",
        edited(lambda f: envelope(f)["signatures"][0].update(keyid="00" * 32)),
    ),
    (
        BUNDLES[1],
        "statement of nothing",
        edited(lambda f: envelope(f).update(payload="e30=")),
    ),
    (BUNDLES[1], "envelope as a message", edited(swap_kinds)),
    (BUNDLES[2], "payload for addresses", lambda b: b.replace(b'"payload": "', b'"payload": "_-')),
    (BUNDLES[2], "statement cut", edited(lambda f: envelope(f).update(payload="eyJf"))),
]


@pytest.mark.parametrize(
    ("name", "what", "change"), FIELDS, ids=[f"62-{name[:4]}-{what}" for name, what, _ in FIELDS]
)
def test_62_a_field_of_a_sigstore_bundle_that_is_wrong_is_told_and_decides_nothing(
    place: Place, real: Real, name: str, what: str, change: Callable[[bytes], bytes]
) -> None:
    release = Path(shutil.copytree(real.release, place.input / "release"))
    path = release / name.format(real.new.key8)
    good = path.read_bytes()
    path.write_bytes(change(good))
    assert path.read_bytes() != good
    before = place.snapshot()
    done = place.run("verify", release, "--key", real.new.public_file)
    require_clean(done, place, before)
    assert done.status == 0, done.stderr
    [told] = [line for line in done.stderr.splitlines() if path.name in line]
    assert not told.startswith("error: ")
    (release / f"SHA256SUMS.{real.new.key8}.sig").unlink()
    without = place.run("verify", release, "--key", real.new.public_file)
    assert without.status == 4, without.stderr


LINKS = (*BUNDLES, OLDEST, NEWEST, "trust")


@pytest.mark.parametrize("name", LINKS)
def test_no_added_file_is_read_through_a_link(
    place: Place, real: Real, tmp_path: Path, name: str
) -> None:
    """What lies behind the link is as good as can be; the release itself is, too."""
    release = Path(shutil.copytree(real.release, place.input / "release"))
    path = release / name.format(real.new.key8)
    path.rename(place.top / "elsewhere")
    path.symlink_to(place.top / "elsewhere")
    before = place.snapshot()
    by_key = place.run("verify", release, "--key", real.new.public_file)
    require_clean(by_key, place, before)
    if name in BUNDLES:
        assert by_key.status == 0, by_key.stderr
        assert path.name in by_key.stderr
    by_file = place.run("verify", release, "--trust", real.trust)
    require_clean(by_file, place, before)
    assert (by_file.status == 0) == (name in BUNDLES), by_file.stderr


@pytest.mark.parametrize("name", [*BUNDLES, OLDEST, NEWEST])
def test_no_flip_of_an_added_file_makes_a_strangers_release_trusted(
    real: Real, tmp_path: Path, name: str
) -> None:
    """The stranger has put all of their own beside what is real, and taken the signature away."""
    release = Path(shutil.copytree(real.release, tmp_path / "release"))
    for path in release.glob(f"*{real.new.key8}*"):
        if name.format(real.new.key8) != path.name:
            path.unlink()
    run("sign", release, "--key", real.stranger.file)
    flips = real.by_file(name.format(real.new.key8), release)
    count, accepted, _ = try_all(flips, 1 if name in {BUNDLES[0], NEWEST} else THIN)
    assert count > 100
    assert accepted == set()


def test_a_flip_of_the_chain_is_taken_only_where_it_says_the_same_in_other_bytes(
    real: Real,
) -> None:
    """Such are the case of a signature's digits, and a space for the zero before a day."""
    content = (real.release / NEWEST).read_bytes()
    count, accepted, _ = try_all(real.by_file(NEWEST, real.release))
    assert count == len(content)
    said = read_root(content, name=NEWEST).signed_bytes
    for at in accepted:
        flipped = content[:at] + bytes([flip(content[at], at)]) + content[at + 1 :]
        assert read_root(flipped, name=NEWEST).signed_bytes == said
    assert len(accepted) < count // 50


@pytest.mark.parametrize("who", ["old", "new"])
def test_no_flip_makes_up_for_a_signature_that_a_version_lacks(
    real: Real, tmp_path: Path, who: str
) -> None:
    signer: Signer = getattr(real, who)
    release = Path(shutil.copytree(real.release, tmp_path / "release"))
    second = rotated(tmp_path / "chain", real.old, real.new, signer)
    (release / NEWEST).write_bytes(second.read_bytes())
    (release / OLDEST).write_bytes((tmp_path / "chain" / "1.root.json").read_bytes())
    flips = AddedFlips(
        release, (tmp_path / "chain" / "1.root.json").read_bytes(), True, NEWEST, 0, 1
    )
    assert not judged(release, flips.trust())[0]
    _, accepted, _ = try_all(flips, THIN)
    assert accepted == set()
