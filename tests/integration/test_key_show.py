"""``bundle key show`` and ``bundle keygen``: the number that openssl shows, as people read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.signing import bundle
from tests.small_release import DATA

PUBLIC = DATA / "format-1" / "release.pub"
PASSPHRASE = "correct horse"


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Make a key pair in a directory whose name a shell would take apart."""
    (tmp_path / "pass").write_text(PASSPHRASE)
    name = tmp_path / "my keys; $(id)" / "release"
    done = bundle("keygen", name, "--passphrase-file", tmp_path / "pass")
    assert done.returncode == 0, done.stderr
    return name


def lines_of(text: str) -> dict[str, str]:
    """Read ``word  value`` lines; a line without a word goes on with the one before."""
    found: dict[str, str] = {}
    word = ""
    for line in text.splitlines():
        word = line[:13].strip() or word
        found[word] = f"{found.get(word, '')} {line[13:].strip()}".strip()
    return found


def run_openssl_line(line: str, openssl: str, environment: dict[str, str]) -> str:
    """Run the very line that was shown; give the digits that it prints."""
    assert Path(openssl).name == "openssl"
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | environment, capture_output=True, check=True
    )
    return done.stdout.split()[0].decode()


def test_the_line_that_is_shown_shows_the_same_number(
    pair: Path, need: Callable[[str], str]
) -> None:
    public = pair.with_suffix(".pub")
    shown = lines_of(bundle("key", "show", public).stdout)
    digits = run_openssl_line(shown["check with"], need("openssl"), {})
    assert shown["fingerprint"].replace(" ", "") == digits
    assert digits.startswith(shown["key8"])
    assert shown["curve"] == "P-256"


def first_key_commands() -> list[str]:
    """Give what the page tells a person to type who has nothing of ours yet."""
    page = (Path(__file__).parents[2] / "TRUST.md").read_text()
    section = page.partition("## The first key\n")[2].partition("\n## ")[0]
    return section.partition("```\n")[2].partition("```")[0].splitlines()


def test_the_commands_of_the_first_key_s_page_run_as_they_stand(
    pair: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("openssl")
    shutil.copy(pair.with_suffix(".pub"), tmp_path / "release.pub")
    machine = json.loads(bundle("key", "show", tmp_path / "release.pub", "--json").stdout)
    number, curve = (
        subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True, text=True
        )
        for line in first_key_commands()
    )
    assert number.stdout == f"{machine['spkiSha256']}  -\n"
    [wanted] = re.findall(r"# must say (\S+): P-256$", first_key_commands()[1])
    assert f"ASN1 OID: {wanted}\n" in curve.stdout


def test_the_private_half_shows_the_same_as_the_public_one(pair: Path, tmp_path: Path) -> None:
    by_public = lines_of(bundle("key", "show", pair.with_suffix(".pub")).stdout)
    private = pair.with_suffix(".key")
    by_private = lines_of(
        bundle("key", "show", private, "--passphrase-file", tmp_path / "pass").stdout
    )
    assert by_private.pop("check with") != by_public.pop("check with")
    assert by_private == by_public


def test_the_line_for_an_open_private_key_shows_the_same_number(
    tmp_path: Path, need: Callable[[str], str]
) -> None:
    bundle("keygen", tmp_path / "open", "--no-passphrase")
    shown = lines_of(bundle("key", "show", tmp_path / "open.key").stdout)
    digits = run_openssl_line(shown["check with"], need("openssl"), {})
    assert shown["fingerprint"].replace(" ", "") == digits


def test_keygen_shows_what_key_show_does(tmp_path: Path) -> None:
    made = lines_of(bundle("keygen", tmp_path / "k", "--no-passphrase").stdout)
    shown = lines_of(bundle("key", "show", tmp_path / "k.pub").stdout)
    assert shown.items() <= made.items()
    assert made["public key"] == str(tmp_path / "k.pub")


def test_a_fingerprint_is_read_in_groups_of_four() -> None:
    [first, second, *_] = bundle("key", "show", PUBLIC).stdout.splitlines()
    groups = (first.removeprefix("fingerprint") + second).split()
    assert [len(group) for group in groups] == [4] * 16


def test_machines_get_the_whole_number_and_the_key() -> None:
    shown = json.loads(bundle("key", "show", PUBLIC, "--json").stdout)
    assert len(shown["spkiSha256"]) == 64
    assert shown["spkiSha256"].startswith(shown["key8"])
    assert shown["pem"] == bundle("key", "show", PUBLIC, "--pem").stdout == PUBLIC.read_text()


def test_a_file_may_be_named_as_an_address() -> None:
    shown = bundle("key", "show", f"file:{PUBLIC}", "--json").stdout
    assert json.loads(shown)["pem"] == PUBLIC.read_text()


def test_a_key_may_come_by_a_pipe(pair: Path, tmp_path: Path) -> None:
    command = f'bundle key show <(cat "$1") --passphrase-file "{tmp_path}/pass" --pem'
    argv = ["bash", "-c", command, "sh", str(pair.with_suffix(".key"))]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stdout == pair.with_suffix(".pub").read_bytes()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("/absent",), 2),
        (("gcpkms:projects/p",), 2),
        (("awskms:",), 2),
        (("awskms:../x y",), 2),
        ((str(PUBLIC), "--pem", "--json"), 2),
        ((__file__,), 3),
    ],
)
def test_what_names_no_key_is_refused(words: tuple[str, ...], status: int) -> None:
    assert bundle("key", "show", *words).returncode == status
