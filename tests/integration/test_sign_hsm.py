"""Signing with a PKCS#11 token: SoftHSM's, judged by openssl; and a PIN is tried once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.integration.signing import (
    Done,
    assert_openssl_accepts,
    bundle,
    bundle_without,
    names_in,
    new_release,
    told,
)
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.hsm import Tap, Token, new_token, tapped

KEY = "hsm:2?label=release"
SHOWN = "hsm:2 of token release"
PIN = "7391-canary"
UNSIGNED = {"SHA256SUMS", "MANIFEST.json"}
# The release has one checkpoint: SHA256SUMS, the provenance and that model are signed.
SIGNATURES = 3


@pytest.fixture(scope="module")
def private_keys(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Path:
    """Make keys with openssl: ``first``, ``second``, and ``large`` on another curve."""
    directory = tmp_path_factory.mktemp("keys")
    for name, curve in {"first": "P-256", "second": "P-256", "large": "P-384"}.items():
        words = ("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}")
        argv = [need("openssl"), *words, "-out", str(directory / f"{name}.pem")]
        subprocess.run(argv, check=True, capture_output=True)
    return directory


@pytest.fixture
def token(
    tmp_path: Path, private_keys: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], str]
) -> Token:
    need("softhsm2-util")
    made = new_token(tmp_path / "softhsm", label="release", pin=PIN)
    made.add(private_keys / "first.pem", key_id=2)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYKCS11LIB", str(made.module))
    return made


@pytest.fixture
def tap(token: Token, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tap]:
    """Listen to what is asked of the token."""
    try:
        with tapped(token) as running:
            monkeypatch.setenv("PYKCS11LIB", str(running.module))
            for name, value in running.environment.items():
                monkeypatch.setenv(name, value)
            yield running
    except (RehearsalError, StopIteration) as error:
        missing(f"p11-kit ({error})")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return new_release(tmp_path / "release")


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    return file


def sign(release: Path, pin_file: Path, key: str = KEY) -> Done:
    return bundle("sign", release, "--key", key, "--pin-file", pin_file)


def test_openssl_accepts_what_a_token_signed(
    token: Token, release: Path, pin_file: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    done = sign(release, pin_file)
    assert done.returncode == 0, done.stderr
    shown = bundle("key", "show", KEY, "--pem")
    key = assert_openssl_accepts(need("openssl"), release, shown.stdout, tmp_path)
    assert done.stdout.strip().endswith(f"SHA256SUMS.{key.key8}.sig")
    assert len(names_in(release) - UNSIGNED) == 1 + SIGNATURES


def test_the_module_may_be_an_option_and_the_pin_come_by_a_descriptor(
    token: Token, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYKCS11LIB")
    read, write = os.pipe()
    os.write(write, PIN.encode())
    os.close(write)
    words = ("--key", "hsm:", "--pin-fd", str(read), "--pkcs11-module", token.module)
    done = bundle("sign", release, *words, pass_fds=(read,))
    os.close(read)
    assert done.returncode == 0, done.stderr


def test_a_wrong_pin_is_tried_exactly_once(tap: Tap, release: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("1111-canary")
    done = sign(release, wrong)
    assert done.returncode == 9
    error, hint = told(done)
    assert (
        error == f"{SHOWN}: the token says that the PIN is wrong; it was tried once, and not again"
    )
    assert "lock" in hint
    assert tap.calls.count("C_Login") == 1
    assert names_in(release) == UNSIGNED


def test_a_wrong_pin_is_not_tried_again_by_who_asks_again(tap: Tap) -> None:
    code = (
        "from bundler.errors import DeniedError\n"
        "from bundler.signing.key_uri import read_key_uri\n"
        "from bundler.signing.signers import open_signer\n"
        f"signer = open_signer(read_key_uri({KEY!r}), secret=lambda _: b'1111')\n"
        "for _ in range(3):\n"
        "    try: signer.sign(b'content')\n"
        "    except DeniedError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("the PIN is wrong") == 3
    assert tap.calls.count("C_Login") == 1


def test_the_right_pin_is_given_once_a_signature(tap: Tap, release: Path, pin_file: Path) -> None:
    assert sign(release, pin_file).returncode == 0
    assert tap.calls.count("C_Login") == SIGNATURES


def test_no_pin_is_needed_to_show_a_key_or_to_find_all_signed(
    tap: Tap, release: Path, pin_file: Path
) -> None:
    assert sign(release, pin_file).returncode == 0
    tap.calls.clear()
    assert bundle("key", "show", KEY).returncode == 0
    assert bundle("sign", release, "--key", KEY).returncode == 0
    assert "C_Login" not in tap.calls


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        ("C_Login", "CKR_PIN_LOCKED", "locked after too many wrong PINs"),
        ("C_Login", "CKR_PIN_EXPIRED", "the PIN has expired"),
        ("C_Login", "CKR_TOKEN_NOT_PRESENT", "the token is gone"),
        ("C_OpenSession", "CKR_DEVICE_REMOVED", "the token is gone"),
        ("C_Sign", "CKR_DEVICE_REMOVED", "the token is gone"),
        ("C_Sign", "CKR_SESSION_HANDLE_INVALID", "session with the token was lost"),
        ("C_Sign", "CKR_GENERAL_ERROR", "the token failed: GeneralError"),
    ],
)
def test_what_a_token_answers_is_told_in_one_line_and_nothing_is_half_signed(
    tap: Tap, release: Path, pin_file: Path, call: str, answer: str, said: str
) -> None:
    tap.fail = {call: answer}
    done = sign(release, pin_file)
    assert done.returncode == 9
    error, hint = told(done)
    assert error.startswith(f"{SHOWN}: ")
    assert said in error
    assert hint
    assert tap.calls.count("C_Login") <= 1
    assert names_in(release) == UNSIGNED


def test_a_token_whose_service_ends_in_the_middle_is_told(
    tap: Tap, release: Path, pin_file: Path
) -> None:
    tap.hang_up_at = "C_Sign"
    done = sign(release, pin_file)
    assert done.returncode == 9
    assert "the token failed" in told(done)[0]
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [
        ("hsm:3?label=release", 9, "no such key"),
        ("hsm:2?label=other", 9, "there is no such token"),
        ("hsm:7?label=release", 3, "P-256"),
        ("hsm:8?label=release", 9, "expected one key of this id, got several"),
        ("hsm:2", 9, "expected one token, got several"),
    ],
)
def test_a_key_that_is_not_one_key_on_p256_is_told(
    token: Token,
    release: Path,
    pin_file: Path,
    private_keys: Path,
    tmp_path: Path,
    key: str,
    status: int,
    said: str,
) -> None:
    token.add(private_keys / "large.pem", key_id=7)
    token.add(private_keys / "first.pem", key_id=8)
    token.add(private_keys / "second.pem", key_id=8)
    if key == "hsm:2":
        new_token(tmp_path / "softhsm", label="second", pin=PIN)
    done = sign(release, pin_file, key)
    assert done.returncode == status
    assert said in told(done)[0]
    assert names_in(release) == UNSIGNED


def test_a_token_that_is_not_there_is_told(
    token: Token, release: Path, pin_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    (empty / "tokens").mkdir(parents=True)
    (empty / "softhsm2.conf").write_text(f"directories.tokendir = {empty}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(empty / "softhsm2.conf"))
    done = sign(release, pin_file, "hsm:")
    assert done.returncode == 9
    assert told(done)[0] == "hsm:2: there is no such token"
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, f"{SHOWN}: no PKCS#11 module was named"),
        ("/absent/module.so", "/absent/module.so: no such PKCS#11 module"),
        ("/etc/passwd", f"{SHOWN}: the PKCS#11 module cannot be used: "),
    ],
)
def test_a_module_that_is_none_is_told(
    release: Path,
    pin_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str | None,
    said: str,
) -> None:
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    if module is not None:
        monkeypatch.setenv("PYKCS11LIB", module)
    done = sign(release, pin_file)
    assert done.returncode == 9
    error, hint = told(done)
    assert error.startswith(said)
    assert "--pkcs11-module" in hint
    assert names_in(release) == UNSIGNED


def test_an_empty_pin_is_not_tried(tap: Tap, release: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty-pin"
    empty.write_text("\n")
    done = sign(release, empty)
    assert done.returncode == 9
    assert told(done)[0] == f"{SHOWN}: expected a PIN, got none"
    assert "C_Login" not in tap.calls


def test_without_a_terminal_a_pin_must_come_from_somewhere(token: Token, release: Path) -> None:
    done = bundle("sign", release, "--key", KEY)
    assert done.returncode == 2
    assert "--pin-file" in done.stderr
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize(
    "key", ["hsm:2?pin-value=7391-canary", "hsm:2?label=release&pin=7391-canary", "hsm:x"]
)
def test_a_pin_has_no_place_in_a_keys_name(release: Path, key: str) -> None:
    done = bundle("sign", release, "--key", key)
    assert done.returncode == 2
    assert "canary" not in done.stderr + done.stdout


def test_without_the_library_the_extra_is_named(release: Path, pin_file: Path) -> None:
    done = bundle_without("pkcs11", "sign", release, "--key", KEY, "--pin-file", pin_file)
    assert done.returncode == 9
    error, hint = told(done)
    assert error == f"{SHOWN}: the Python package pkcs11 is not installed"
    assert hint == "pip install 'airgap-llm-bundle[hsm]'"
    assert names_in(release) == UNSIGNED
