"""A passphrase and a PIN are seen nowhere, whatever happens, and asked for without an echo."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.signing import BUNDLE, bundle, names_in, new_release
from tests.rehearsal.hsm import Token, new_token

CANARY = "canary-7391-Passw0rt"
WRONG = "canary-0000-falsch"
HSM = "hsm:2?label=release"
# Named, since pytest shows in the environment what a test is called.
GIVEN = pytest.mark.parametrize(
    ("secret", "status"),
    [pytest.param(CANARY, 0, id="right"), pytest.param(WRONG, 9, id="wrong")],
)
_POLL_SECONDS = 0.01
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


def assert_unseen(*texts: str | bytes) -> None:
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        assert CANARY.encode() not in content
        assert WRONG.encode() not in content


@contextmanager
def watched() -> Iterator[list[bytes]]:
    """Collect every command line, and every environment, that new processes show meanwhile."""
    before = set(Path("/proc").glob("[0-9]*"))
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for place in set(Path("/proc").glob("[0-9]*")) - before:
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((place / name).read_bytes())
                    except OSError:
                        continue
            time.sleep(_POLL_SECONDS)

    thread = threading.Thread(target=look)
    shown: list[bytes] = []
    thread.start()
    try:
        yield shown
    finally:
        over.set()
        thread.join()
        shown += seen


def sign(
    release: Path, key: Path | str, secret: str, *words: str
) -> subprocess.CompletedProcess[str]:
    """Sign with a secret that comes by a descriptor."""
    read, write = os.pipe()
    os.write(write, secret.encode())
    os.close(write)
    try:
        argv = ("sign", release, "--key", key, "--passphrase-fd", str(read), *words)
        return bundle(*argv, pass_fds=(read,))
    finally:
        os.close(read)


@GIVEN
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_passphrase_is_seen_nowhere(
    release: Path, key: Path, secret: str, status: int, words: Sequence[str]
) -> None:
    with watched() as shown:
        done = sign(release, key, secret, *words)
    assert done.returncode == status, done.stderr
    assert any(str(release).encode() in each for each in shown)  # the watch was awake
    assert_unseen(done.stdout, done.stderr, *shown)
    assert_unseen(*(path.read_bytes() for path in release.iterdir()))


@GIVEN
def test_a_pin_is_seen_nowhere(release: Path, token: Token, secret: str, status: int) -> None:
    with watched() as shown:
        done = sign(release, HSM, secret, "--json")
    assert done.returncode == status, done.stderr
    assert any(str(release).encode() in each for each in shown)
    assert_unseen(done.stdout, done.stderr, *shown)
    assert_unseen(*(path.read_bytes() for path in release.iterdir()))


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
