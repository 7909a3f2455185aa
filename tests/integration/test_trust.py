"""Thresholds and trust files by the command line, from and to a bucket, and where it deploys."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.cli import run
from bundler.describe import describe_path
from bundler.errors import StaleError, UntrustedError
from bundler.events import Event, Noted
from bundler.manifest import MANIFEST_NAME
from bundler.publish.memory import read_pointer
from bundler.publish.travelling import carry_along
from bundler.release import TrustedRelease, open_release
from bundler.release_files import ReleaseInBucket
from bundler.sign import sign_release
from bundler.signing.tuf_roots import read_root
from bundler.stores.opening import open_folder
from bundler.trust import Trust
from bundler.verify import verify_path
from tests.integration import test_publish as whole
from tests.integration.released_in_s3 import Copied, copy_to
from tests.integration.test_publish import NOW, Site
from tests.rehearsal.s3 import S3
from tests.roots import Holders, new_person, put, tuf_root
from tests.small_release import make_release

site, small = whole.site, whole.small

A, B, C, D = PEOPLE = [new_person() for _ in range(4)]
NAMES = "abcd"


class Vendor:
    """A directory with four keys in files and a release, and the command in it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.release = directory / "release"
        self._capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Run a command, and give its results; ``said`` keeps what was told beside them."""
        assert run(list(arguments)) == status, self._capsys.readouterr().err
        told = self._capsys.readouterr()
        self.said = told.err
        return told.out

    def sign(self, path: str, *names: str) -> None:
        for name in names:
            self("trust", "sign", path, "--key", f"{name}.key")


@pytest.fixture
def vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Vendor:
    monkeypatch.chdir(tmp_path)
    vendor = Vendor(tmp_path, capsys)
    for name in NAMES:
        vendor("keygen", name, "--no-passphrase")
    make_release(vendor.release)
    return vendor


INIT = ("trust", "init", "-o", "trust/1.root.json", "--expires", "2090-01-01")


def keys(names: str) -> list[str]:
    return [argument for name in names for argument in ("--key", f"{name}.pub")]


@pytest.fixture
def rotated(vendor: Vendor) -> Vendor:
    """Two versions, of a, b, c and of b, c, d, two of whom must sign; b and d signed the release.

    Operators have ``site.json``, which is version 1.
    """
    vendor(*INIT, *keys("abc"), "--threshold", "2")
    vendor.sign("trust/1.root.json", "a", "b")
    shutil.copy("trust/1.root.json", "site.json")
    vendor("trust", "rotate", "trust/1.root.json", "--expires", "500")
    vendor("trust", "add-key", "trust/2.root.json", "--key", "d.pub")
    vendor("trust", "remove-key", "trust/2.root.json", "--key", "a.pub")
    vendor.sign("trust/2.root.json", "a", "d", "b")
    vendor("trust", "attach", "trust/2.root.json", "release")
    for name in "bd":
        vendor("sign", "release", "--key", f"{name}.key")
    return vendor


def test_the_signing_of_a_version_is_told_at_each_step(vendor: Vendor) -> None:
    out = vendor(*INIT, *keys("abc"), "--threshold", "2")
    assert out == "trust/1.root.json\n"
    assert "bundle trust sign trust/1.root.json --key KEY" in vendor.said
    shown = vendor("trust", "show", "trust/1.root.json", status=4)
    assert "signed by none of them; 2 more of " in shown
    vendor.sign("trust/1.root.json", "c")
    told = json.loads(vendor("trust", "show", "trust/1.root.json", "--json", status=4))
    assert (told["version"], told["threshold"], told["complete"]) == (1, 2, False)
    assert told["expires"] == "2090-01-01T00:00:00Z"
    assert (len(told["keys"]), told["signatures"]["missing"]) == (3, 1)
    [by] = told["signatures"]["signed"]
    assert by in {key["key8"] for key in told["keys"]}
    vendor.sign("trust/1.root.json", "a")
    assert "enough have signed" in vendor("trust", "show", "trust/1.root.json")


def test_an_operator_goes_on_to_the_newest_version_and_keeps_it(rotated: Vendor) -> None:
    out = rotated("verify", "release", "--trust", "site.json")
    assert "release is as signed by" in out
    [note] = [line for line in rotated.said.splitlines() if "trust file" in line]
    assert "version 2 of the trust file" in note
    assert "bundle trust update site.json RELEASE" in note
    told = json.loads(rotated("verify", "release", "--trust", "site.json", "--json"))
    assert "version 2" in told["newerTrust"]
    out = rotated("trust", "update", "site.json", "release")
    assert out.startswith("site.json: version 1 replaced by 2\nadded ")
    assert Path("site.json").read_bytes() == Path("trust/2.root.json").read_bytes()
    assert "brings no newer" in rotated("trust", "update", "site.json", "release")
    rotated("verify", "release", "--trust", "site.json")
    assert "trust file" not in rotated.said


def test_a_later_version_is_shown_alone_as_it_is_used(rotated: Vendor) -> None:
    shutil.copy("trust/2.root.json", "alone.json")
    out = rotated("trust", "show", "alone.json")
    assert "version 1 is not here, so who of its keys signed is not known: --before FILE" in out
    assert "enough of its own keys have signed" in out
    told = json.loads(rotated("trust", "show", "alone.json", "--json"))
    assert (told["complete"], told["signaturesByVersionBefore"]) == (None, None)
    rotated("verify", "release", "--trust", "alone.json")
    told = json.loads(rotated("trust", "show", "trust/2.root.json", "--json"))
    assert told["complete"] is True


def test_a_later_version_alone_is_shown_to_lack_signatures_of_its_own(rotated: Vendor) -> None:
    rotated("trust", "rotate", "trust/2.root.json", "-o", "alone.json", "--expires", "500")
    rotated.sign("alone.json", "b")
    assert "1 more of" in rotated("trust", "show", "alone.json", status=4)
    rotated.sign("alone.json", "c")
    rotated("trust", "show", "alone.json")
    rotated("trust", "show", "alone.json", "--before", "trust/2.root.json")


def test_too_few_of_the_version_before_are_shown_where_it_is_here(vendor: Vendor) -> None:
    vendor(*INIT, *keys("ab"), "--threshold", "2")
    vendor.sign("trust/1.root.json", "a", "b")
    vendor("trust", "rotate", "trust/1.root.json", "--expires", "500")
    vendor("trust", "add-key", "trust/2.root.json", "--key", "c.pub")
    vendor("trust", "remove-key", "trust/2.root.json", "--key", "a.pub")
    vendor.sign("trust/2.root.json", "b", "c")
    assert "by the keys of version 1" in vendor("trust", "show", "trust/2.root.json", status=4)
    shutil.copy("trust/2.root.json", "alone.json")
    vendor("trust", "show", "alone.json")


def test_one_signer_short_is_4_and_says_of_whom_more_are_needed(rotated: Vendor) -> None:
    for path in rotated.release.glob("SHA256SUMS.*.sig"):
        path.unlink()
    rotated("sign", "release", "--key", "a.key")
    rotated("sign", "release", "--key", "c.key")
    rotated("verify", "release", "--trust", "site.json", status=4)  # a is retired
    [line] = [line for line in rotated.said.splitlines() if line.startswith("error: ")]
    assert "by 2 of 3 keys, got 1: signed by " in line
    assert "; 1 more of " in line
    rotated("verify", "release", *keys("ab"), "--threshold", "2", status=4)
    rotated("verify", "release", *keys("ac"), "--threshold", "2")


def test_every_command_that_judges_a_release_takes_the_trust_file(
    rotated: Vendor, need: Callable[[str], str]
) -> None:
    need("helm")
    by = ("--trust", "site.json")
    told = json.loads(rotated("inspect", "release", *by, "--json"))
    assert len(told["signatures"]) == 2
    rotated("extract", "release/tiny_2026.10.tar", "out", *by)
    rotated("split", "release", "--media", "dvd", *by)
    shutil.copytree("release", "stripped", ignore=shutil.ignore_patterns("*.sig"))
    for command in (
        ("verify", "stripped"),
        ("inspect", "stripped"),
        ("extract", "stripped/tiny_2026.10.tar", "no"),
        ("split", "stripped", "--media", "dvd"),
        ("verify", "stripped", "--closure"),
    ):
        rotated(*command, *by, status=4)
        assert "got no signature" in rotated.said


@pytest.mark.parametrize("command", ["verify", "inspect", "plan", "publish"])
def test_a_threshold_holds_in_every_command(rotated: Vendor, command: str) -> None:
    Path("target.yaml").write_text("")
    to = ["--target", "target.yaml"] if command in {"plan", "publish"} else []
    rotated(command, "release", *to, *keys("ab"), "--threshold", "2", status=4)
    assert "got 1: signed by " in rotated.said


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--trust", "site.json", "--key", "a.pub"], 2, "--trust goes without --key"),
        (["--trust", "site.json", "--threshold", "1"], 2, "--trust goes without --key"),
        (["--threshold", "2"], 2, "--threshold goes with --key"),
        (["--key", "a.pub", "--threshold", "0"], 2, "0 is not in the range"),
        (["--key", "a.pub", "--threshold", "2"], 3, "expected a threshold from 1 to 1"),
        (["--key", "b.pub", "--key", "twin.pub", "--threshold", "2"], 3, "from 1 to 1"),
        (["--trust", "draft.json"], 4, "expected signatures by 1 of the 1 keys"),
        (["--trust", "a.pub"], 3, "a.pub: not JSON"),
        (["--trust", "nowhere.json"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    rotated: Vendor, arguments: list[str], status: int, said: str
) -> None:
    Path("twin.pub").write_text("\n" + Path("b.pub").read_text().replace("\n", "\r\n"))
    rotated("trust", "init", "-o", "draft.json", *keys("b"), "--threshold", "1", "--expires", "9")
    rotated("verify", "release", *arguments, status=status)
    assert said in rotated.said


def test_an_expired_trust_file_is_6_whatever_is_allowed_for_the_release(vendor: Vendor) -> None:
    past = datetime(2026, 1, 1, tzinfo=UTC)
    Path("old.json").write_bytes(tuf_root(1, Holders([A], 1), [A], expires=past).to_bytes())
    sign_release(vendor.release, A.private)
    vendor("verify", "release", "--trust", "old.json", "--allow-expired", status=6)
    assert "old.json: version 1 expired at 2026-01-01T00:00:00Z" in vendor.said
    vendor("inspect", "release", "--trust", "old.json", status=6)


@pytest.mark.parametrize("text", ["0", "2020-01-01", "2030-02-30", "tomorrow", "-5", "99999", "²"])
def test_an_expiry_that_is_none_is_wrong_usage(vendor: Vendor, text: str) -> None:
    arguments = ["trust", "init", "-o", "x.json", *keys("a"), "--threshold", "1"]
    vendor(*arguments, f"--expires={text}", status=2)
    assert not Path("x.json").exists()


def test_a_key_given_twice_makes_no_trust_file(vendor: Vendor) -> None:
    shutil.copy("a.pub", "twin.pub")
    vendor(*INIT, *keys("a"), "--key", "twin.pub", "--threshold", "2", status=3)
    assert "expected each key once" in vendor.said


def test_the_help_shows_the_whole_way(vendor: Vendor) -> None:
    text = vendor("trust", "--help")
    for word in ("init", "sign", "show", "rotate", "add-key", "remove-key", "attach", "update"):
        assert word in text
    assert "operator   verify RELEASE --trust vendor.root.json" in text


# Elsewhere than on a disk


def chain() -> dict[int, bytes]:
    return {
        1: tuf_root(1, Holders([A, B], 2), [A, B]).to_bytes(),
        2: tuf_root(2, Holders([B, C], 2), [A, B, C]).to_bytes(),
        3: tuf_root(3, Holders([C, D], 2), [B, C, D]).to_bytes(),
    }


def trust_in(content: bytes) -> Trust:
    return Trust.of_root(read_root(content, name="site.json"), now=NOW)


@pytest.fixture
def copied(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copied:
    """Give a release in a bucket that C and D signed, with three versions of the trust file."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)
    make_release(tmp_path / "release")
    for person in (C, D):
        sign_release(tmp_path / "release", person.private)
    copied = copy_to(s3, tmp_path / "release")
    for version, content in chain().items():
        copied.put(f"trust/{version}.root.json", content)
    return copied


def test_a_release_in_a_bucket_brings_its_chain_too(copied: Copied) -> None:
    versions = chain()
    for content in versions.values():
        report = verify_path(copied.files(), trust_in(content), now=NOW, strict=True)
        assert report
        assert bool(report.news) == (content != versions[3])
    copied.put("trust/other.json", b"{}")
    report = verify_path(copied.files(), trust_in(versions[1]), now=NOW)
    assert report.extra == ("trust/other.json",)
    copied.delete("trust/2.root.json")
    with pytest.raises(UntrustedError, match=r"s3://\S+/trust/2\.root\.json: expected this"):
        verify_path(copied.files(), trust_in(versions[1]), now=NOW)
    copied.delete("trust/3.root.json")
    with pytest.raises(UntrustedError, match="expected signatures by 2 of 2 keys, got 1"):
        verify_path(copied.files(), trust_in(versions[2]), now=NOW)


@pytest.fixture
def judged(small: TrustedRelease, tmp_path: Path) -> Callable[[int], TrustedRelease]:
    """Open a release that everybody signed by one version of the trust file; it brings none."""
    directory = Path(shutil.copytree(small.directory, tmp_path / small.directory.name))
    for person in PEOPLE:
        sign_release(directory, person.private)
    return lambda version: open_release(directory, trust_in(chain()[version]))


def test_a_retired_key_does_not_come_back_to_where_a_newer_trust_file_judged(
    site: Site, small: TrustedRelease, judged: Callable[[int], TrustedRelease]
) -> None:
    key = site.target.s3.place.key("releases", "current.json")
    assert site.publish(judged(2)) is not None
    found = read_pointer(site.store, key)
    assert found is not None
    assert found.trust_version == 2
    with pytest.raises(StaleError, match=r"expected version 2 or higher, .*, got version 1"):
        site.plan(judged(1))
    with pytest.raises(StaleError, match="got none, but keys"):
        site.plan(small)
    site.publish(judged(3))
    found = read_pointer(site.store, key)
    assert found is not None
    assert found.trust_version == 3
    with pytest.raises(StaleError, match="got version 2"):
        site.plan(judged(2))


def open_carried(directory: Path, trust: Trust) -> TrustedRelease:
    """Open a release with all that travels with it, as the commands do."""
    notes: list[str] = []
    release = carry_along(open_release(directory, trust), notes.append)
    assert notes == []
    return release


def test_what_a_release_brought_is_published_with_it(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(small.directory, tmp_path / small.directory.name))
    put(directory, chain())
    for person in (C, D):
        sign_release(directory, person.private)
    release = open_carried(directory, trust_in(chain()[1]))
    receipt = site.publish(release)
    assert receipt is not None
    assert receipt.trust is not None
    assert receipt.trust.version == 3
    assert receipt.trust.threshold == release.trust.signers.threshold
    assert set(receipt.trust.keys) == {key.spki_digest for key in release.trust.signers.keys}
    assert set(receipt.trust.signed) == {C.public.spki_digest, D.public.spki_digest}
    names = {key for key in site.objects() if "/trust/" in key}
    assert {name.rpartition("/")[2] for name in names} == {f"{n}.root.json" for n in (1, 2, 3)}
    assert not site.plan(release).pending
    assert not site.plan(open_carried(directory, trust_in(chain()[3]))).pending


def test_an_auditor_with_the_first_version_judges_what_a_site_with_the_newest_published(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(small.directory, tmp_path / small.directory.name))
    put(directory, chain())
    for person in (C, D):
        sign_release(directory, person.private)
    site.publish(open_carried(directory, trust_in(chain()[3])))
    s3 = site.target.s3
    place = s3.place / "releases" / small.manifest.release.directory
    folder = open_folder(place, endpoint=s3.endpoint, region=s3.region)
    notes: list[Event] = []
    report = verify_path(ReleaseInBucket(folder), trust_in(chain()[1]), now=NOW, emit=notes.append)
    assert set(report.signatures) == {C.key8, D.key8}
    [fault] = report.faults  # publish leaves no archive there, and status judges what it does leave
    assert fault.archive == small.manifest.bundle.archive
    assert not [note for note in notes if isinstance(note, Noted)]
    shown = describe_path(ReleaseInBucket(folder), trust_in(chain()[1]))
    assert (shown.signatures, shown.present) == (report.signatures, frozenset())
    added = {path.name for path in directory.glob("*.json")} - {MANIFEST_NAME}
    assert added <= set(folder.objects)
