"""PKCS#11 tokens: SoftHSM's, and a tap on the way to one that counts calls and makes them fail.

The tap stands where ``p11-kit`` carries PKCS#11 over a pipe: the token, and what it answers, are
real until a test says which call is to be answered in its place.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.rehearsal import programs

LIBRARIES = Path("/usr/lib")
SO_PIN = "87654321"
# Numbers of calls. Source: p11-kit 0.24, p11-kit/rpc-message.h, "p11_rpc_calls".
CALLS = {10: "C_OpenSession", 18: "C_Login", 42: "C_SignInit", 43: "C_Sign"}
_ERROR_CALL = 0
# Return values. Source: PKCS#11 v2.40, "General information", CKR_....
ERRORS = {
    "CKR_GENERAL_ERROR": 0x05,
    "CKR_DEVICE_ERROR": 0x30,
    "CKR_DEVICE_REMOVED": 0x32,
    "CKR_PIN_LOCKED": 0xA4,
    "CKR_PIN_EXPIRED": 0xA3,
    "CKR_SESSION_HANDLE_INVALID": 0xB3,
    "CKR_TOKEN_NOT_PRESENT": 0xE0,
}
_HEAD = struct.Struct(">III")


@dataclass(frozen=True, slots=True)
class Token:
    """A SoftHSM token in a directory.

    Attributes:
        label: Its label.
        pin: What opens it.
        module: The library that speaks PKCS#11.
        environment: What a program needs to find it.
    """

    label: str
    pin: str
    module: Path
    environment: dict[str, str]

    def add(self, private_pem: Path, *, key_id: int) -> None:
        """Put a key pair (PKCS#8, not encrypted) into it; an id may be given to several."""
        self._run("--import", private_pem, "--id", f"{key_id:02x}", "--label", "rel", "--force")

    def _run(self, *words: str | Path) -> None:
        _softhsm(self.environment, *words, "--token", self.label, "--pin", self.pin)


def softhsm_module() -> Path:
    """Find SoftHSM's library; raises as ``programs.find`` where it is not installed."""
    programs.find("softhsm2-util")
    return next(LIBRARIES.glob("**/softhsm/libsofthsm2.so"))


def new_token(directory: Path, *, label: str, pin: str) -> Token:
    """Make a token in a directory; several may lie in one."""
    config = directory / "softhsm2.conf"
    (directory / "tokens").mkdir(parents=True, exist_ok=True)
    config.write_text(f"directories.tokendir = {directory}/tokens\nlog.level = ERROR\n")
    token = Token(label, pin, softhsm_module(), {"SOFTHSM2_CONF": str(config)})
    words = ("--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN)
    _softhsm(token.environment, *words)
    return token


def _softhsm(environment: dict[str, str], *words: str | Path) -> None:
    argv = [programs.find("softhsm2-util"), *words]
    subprocess.run(argv, env=os.environ | environment, check=True, capture_output=True)


@dataclass(slots=True)
class Tap:
    """Calls that passed by, in order, and those that are to fail.

    Attributes:
        address: Where ``p11-kit``'s client finds it.
        calls: Numbers or names of ``CALLS``.
        fail: Answer in the place of the token, by the name of the call.
        hang_up_at: The call at which the connection ends instead.
    """

    address: str
    calls: list[str] = field(default_factory=list)
    fail: dict[str, str] = field(default_factory=dict)
    hang_up_at: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to speak through it."""
        return {"P11_KIT_SERVER_ADDRESS": self.address}

    @property
    def module(self) -> Path:
        """The library that speaks through it."""
        return next(LIBRARIES.glob("*/pkcs11/p11-kit-client.so"))


@contextlib.contextmanager
def tapped(token: Token) -> Iterator[Tap]:
    """Carry PKCS#11 to a token while the block lasts."""
    argv = [programs.find("p11-kit"), "remote", str(token.module)]
    with tempfile.TemporaryDirectory(prefix="tap-") as own, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{own}/socket")
        server.listen()
        tap = Tap(f"unix:path={own}/socket")
        thread = threading.Thread(target=_serve, args=(server, argv, token, tap), daemon=True)
        thread.start()
        try:
            yield tap
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket, argv: list[str], token: Token, tap: Tap) -> None:
    environment = os.environ | token.environment
    with contextlib.suppress(OSError):  # the listener was shut down
        while True:
            connection, _ = server.accept()
            with (
                connection,
                connection.makefile("rb") as asked,
                subprocess.Popen(
                    argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                ) as process,
            ):
                assert process.stdin is not None
                assert process.stdout is not None
                _relay(connection, asked, (process.stdin, process.stdout), tap)
                process.stdin.close()


def _relay(
    client: socket.socket, asked: IO[bytes], token: tuple[IO[bytes], IO[bytes]], tap: Tap
) -> None:
    to, back = token
    to.write(_read(asked, 1))  # the version, both ways
    to.flush()
    client.sendall(_read(back, 1))
    while head := _read(asked, _HEAD.size):
        code, options, size = _HEAD.unpack(head)
        body = _read(asked, options + size)
        number = int.from_bytes(body[options : options + 4], "big")
        call = CALLS.get(number, str(number))
        tap.calls.append(call)
        if call == tap.hang_up_at:
            return
        if call in tap.fail:
            client.sendall(_failure(code, ERRORS[tap.fail[call]]))
            continue
        to.write(head + body)
        to.flush()
        answer = _read(back, _HEAD.size)
        _, options, size = _HEAD.unpack(answer)
        client.sendall(answer + _read(back, options + size))


def _failure(code: int, value: int) -> bytes:
    # The call, its signature as a counted text ("u": one number), and that number.
    body = struct.pack(">II1sQ", _ERROR_CALL, 1, b"u", value)
    return _HEAD.pack(code, 0, len(body)) + body


def _read(source: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size and (more := source.read(size - len(content))):
        content += more
    return content
