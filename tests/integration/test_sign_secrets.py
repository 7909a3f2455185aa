"""A passphrase and a PIN are seen nowhere, whatever happens, and asked for without an echo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.signing import BUNDLE, bundle, names_in, new_release
from tests.integration.watching import watch
from tests.rehearsal.hsm import Token, new_token

CANARY = "canary-7391-Passw0rt"
WRONG = "canary-0000-falsch"
HSM = "hsm:2?label=release"
# Named, since pytest shows in the environment what a test is called.
GIVEN = pytest.mark.parametrize(
    ("secret", "status"),
    [pytest.param(CANARY, 0, id="right"), pytest.param(WRONG, 9, id="wrong")],
)
_PROMPT_SECONDS = 60


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "pass").write_text(CANARY)
    done = bundle("keygen", tmp_path / "release", "--passphrase-file", tmp_path / "pass")
    assert_unseen(done.stdout + done.stderr)
    return tmp_path / "release.key"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], str]) -> Token:
    need("softhsm2-util")
    made = new_token(tmp_path / "softhsm", label="release", pin=CANARY)
    assert bundle("keygen", tmp_path / "open", "--no-passphrase").returncode == 0
    made.add(tmp_path / "open.key", key_id=2)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYKCS11LIB", str(made.module))
    return made


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return new_release(tmp_path / "signed")


@pytest.fixture
def strace(need: Callable[[str], str]) -> str:
    return need("strace")


def assert_unseen(*texts: str | bytes) -> None:
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        assert CANARY.encode() not in content
        assert WRONG.encode() not in content


def sign(
    strace: str, release: Path, key: Path | str, secret: str, status: int, *words: str
) -> None:
    """Sign with a secret that comes by a descriptor, and let nothing show it."""
    read, write = os.pipe()
    os.write(write, secret.encode())
    os.close(write)
    try:
        argv = ("-v", "sign", release, "--key", key, "--passphrase-fd", str(read), *words)
        log = release.with_name("strace")
        command = [sys.executable, BUNDLE, *argv]
        done = watch(strace, command, log=log, environment={}, descriptors=(read,))
    finally:
        os.close(read)
    assert done.status == status, done.stderr
    [program] = done.programs  # no other is started where keys are
    assert_unseen(done.stdout, done.stderr, *program.argv, *program.environment)
    assert done.files_with({"right": CANARY, "wrong": WRONG}) == set()  # nor for a moment
    assert_unseen(*(path.read_bytes() for path in release.iterdir()))


@GIVEN
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_passphrase_is_seen_nowhere(
    strace: str, release: Path, key: Path, secret: str, status: int, words: Sequence[str]
) -> None:
    sign(strace, release, key, secret, status, *words)


@GIVEN
def test_a_pin_is_seen_nowhere(
    strace: str, release: Path, token: Token, secret: str, status: int
) -> None:
    sign(strace, release, HSM, secret, status, "--json")


@pytest.mark.parametrize("kind", ["file", "token"])
def test_even_a_defect_shows_no_secret(
    release: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Force one where the secret is in use, and look into the log of defects, too."""
    uri = request.getfixturevalue("key") if kind == "file" else HSM
    if kind == "token":
        request.getfixturevalue("token")
    (tmp_path / "secret").write_text(CANARY)
    code = (
        "import sys, bundler.signing.keys as keys, securesystemslib.signer as library\n"
        "def broken(*given): raise RuntimeError('a defect on purpose')\n"
        "keys.PrivateKey.sign = library.HSMSigner._find_signing_key = broken\n"
        "from bundler.cli import main; main()"
    )
    state = tmp_path / "state"
    words = ("-v", "sign", release, "--key", uri, "--pin-file", tmp_path / "secret")
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"XDG_STATE_HOME": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    log = (state / "bundle" / "defects.log").read_text()
    assert "a defect on purpose" in log
    assert_unseen(done.stdout, done.stderr, log)
    assert len(names_in(release)) == 2


@GIVEN
@pytest.mark.parametrize("kind", ["file", "token"])
def test_a_person_is_asked_once_and_nothing_is_echoed(
    release: Path, kind: str, secret: str, status: int, request: pytest.FixtureRequest
) -> None:
    uri = request.getfixturevalue("key") if kind == "file" else HSM
    if kind == "token":
        request.getfixturevalue("token")
    code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    argv = [sys.executable, "-c", code, BUNDLE, "sign", release, "--key", uri]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""
        while b": " not in shown:
            shown += os.read(process.stdout.fileno(), 1 << 10) or b": nothing"
        process.stdin.write(f"{secret}\n".encode())
        process.stdin.flush()
        shown += process.stdout.read()
        assert process.wait(_PROMPT_SECONDS) == status, shown
    question = b"Passphrase of " if kind == "file" else b"PIN for hsm:2 of token release"
    assert shown.count(question) == 1
    assert_unseen(shown)
