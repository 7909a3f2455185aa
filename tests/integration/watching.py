"""What a command and all that it starts show of secrets, as the kernel saw it: nothing is sampled.

strace stops each process at each execve, with its arguments and its environment, and at each write
to a file, however short these live.
"""

from __future__ import annotations

import ast
import base64
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_TRACED = "trace=execve,write,pwrite64,writev,pwritev,pwritev2"
_LONGEST = 1 << 22
_SECONDS = 300
_EXECVE = re.compile(r'^\d+ +execve\(("(?:[^"\\]|\\.)*"), (\[.*?\]), (\[.*\])(?:\)| <unfinished)')
_WRITE = re.compile(r"^\d+ +p?writev?(?:64|2)?\(\d+<(/[^>]*)>, ")
# What no file system keeps.
_NO_FILES = ("/dev/null", "/dev/pts", "/dev/tty", "/proc/")


@dataclass(frozen=True, slots=True)
class Program:
    """One execve: what the command was, or what it or its children became."""

    argv: tuple[str, ...]
    environment: frozenset[str]

    @property
    def name(self) -> str:
        """The program's own name, with the word that says what it does."""
        words = [word for word in self.argv[1:] if not word.startswith("-")]
        return " ".join([Path(self.argv[0]).name, *words[:1]])


@dataclass(frozen=True, slots=True)
class Watched:
    """A command that ran to its end.

    Attributes:
        status: How it ended.
        stdout, stderr: What it said.
        programs: Itself, first, and all that were started since.
        written: What was written to each file, by its path at the time, as strace shows bytes.
    """

    status: int
    stdout: str
    stderr: str
    programs: tuple[Program, ...]
    written: tuple[tuple[str, str], ...]

    def children(self) -> tuple[Program, ...]:
        """Give what the command started, without itself."""
        return self.programs[1:]

    def files_with(self, secrets: Mapping[str, str]) -> set[tuple[str, str]]:
        """Give which secret was written to which file, even one that is gone now."""
        return {(name, path) for path, line in self.written for name in secrets_in(line, secrets)}


def watch(
    strace: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    given: bytes = b"",
    descriptors: tuple[int, ...] = (),
    enter: Sequence[str | Path] = (),
) -> Watched:
    """Run a command to its end.

    Args:
        strace: The program.
        argv: The command.
        log: Where strace writes; not to be looked into for secrets.
        environment: Set on top of this process's.
        given: Its standard input.
        descriptors: What it inherits beside that.
        enter: What starts strace, such as the way into a rehearsal.
    """
    options = ["-f", "-q", "-v", "-y", "--seccomp-bpf", "-s", str(_LONGEST), "-e", _TRACED]
    options += ["-e", "signal=none", "-o", str(log)]
    done = subprocess.run(
        [*enter, strace, *options, "--", *argv],
        env={**os.environ, **environment},
        input=given,
        capture_output=True,
        check=False,
        timeout=_SECONDS,
        pass_fds=descriptors,
    )
    lines = log.read_text(errors="surrogateescape").splitlines()
    return Watched(
        status=done.returncode,
        stdout=done.stdout.decode(),
        stderr=done.stderr.decode(),
        programs=tuple(_programs(lines)),
        written=tuple(_written(lines)),
    )


def _programs(lines: Sequence[str]) -> Iterator[Program]:
    for line in lines:
        if " execve(" not in line or line.endswith(" ENOENT (No such file or directory)"):
            continue
        found = _EXECVE.match(line)
        assert found is not None, line[:500]
        argv, environment = (ast.literal_eval(found[number]) for number in (2, 3))
        yield Program(tuple(argv), frozenset(environment))


def _written(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        found = _WRITE.match(line)
        if found is not None and not found[1].startswith(_NO_FILES):
            yield found[1], line


def secrets_in(text: str | bytes, secrets: Mapping[str, str]) -> set[str]:
    """Name the secrets that a text shows, as they are or as something would write them."""
    content = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
    return {
        name for name, secret in secrets.items() if any(form in content for form in _forms(secret))
    }


def files_with(directory: Path, secrets: Mapping[str, str]) -> set[tuple[str, str]]:
    """Give which secret stands in which file below a directory."""
    return {
        (name, str(path))
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
        for name in secrets_in(path.read_bytes(), secrets)
    }


def _forms(secret: str) -> Iterator[bytes]:
    """Give a secret as it is, in a URL, and as any base64 has it that holds it."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for before in range(3):
        # The first and the last characters depend on what stands beside the secret.
        padded = base64.b64encode(bytes(before) + secret.encode())
        yield padded[-(-before * 8 // 6) : len(padded) - 4]
