"""Fuzzes parsers, each in a process of its own: ``scripts/fuzz --help`` tells how."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_CASES = Path(__file__).with_name("cases")
# What separates or bends text in formats that people write.
_WORDS = (
    *(b"\x1b[2J", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\xc2\x85", b"\\ud800", b"\r\n", b"\0"),
    *(
        b"..",
        b"/",
        b"-1",
        b"9007199254740993",
        b"1e400",
        b"NaN",
        b"{",
        b"[",
        b"&a ",
        b"*a",
        b"<<: ",
    ),
)
_MAX_BYTES = 1 << 14
_SHOWN_LINES = 40


def main() -> None:
    options = _options()
    # Only modules that are imported in this block tell the fuzzer which way an input took.
    atheris: Any = importlib.import_module("atheris")
    silently = contextlib.redirect_stderr(io.StringIO())  # of a line for each module
    with silently, atheris.instrument_imports(include=["bundler"]):
        parsers = importlib.import_module("tests.fuzz.parsers").PARSERS
    unknown = set(options.parser) - parsers.keys()
    if unknown:
        sys.exit(f"no parser {', '.join(sorted(unknown))}; there are: {', '.join(parsers)}")
    found = [_fuzz(atheris, name, parsers[name], options) for name in options.parser or parsers]
    sys.exit(1 if any(found) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("parser", nargs="*", help="all of them, one after the other, where none is")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each parser at most")
    parser.add_argument("--seed", type=int, default=0, help="the same inputs again; 0 for others")
    parser.add_argument("--corpus", type=Path, help="keep what was found worth trying; go on there")
    parser.add_argument("--cases", type=Path, default=_CASES, help="where findings are written")
    return parser.parse_args()


def _fuzz(atheris: Any, name: str, parser: Any, options: argparse.Namespace) -> bool:
    """Fuzz one parser until time is up or there is a finding; say whether there was one."""
    # No TemporaryDirectory: a child that ends would clear it away.
    scratch, begun = Path(tempfile.mkdtemp()), time.monotonic()
    try:
        corpus = (options.corpus or scratch) / name
        _write_all(corpus, [*parser.seeds, *_known(name)])
        words = "".join(map(_quoted, (*parser.words(), *_WORDS)))
        (scratch / "words").write_text(words)
        (scratch / "findings").mkdir()
        arguments = [*_arguments(scratch, options), str(corpus)]
        child = get_context("fork").Process(
            target=_be_fuzzed, args=(atheris, parser, scratch, arguments)
        )
        child.start()
        child.join()
        inputs = [path.read_bytes() for path in (scratch / "findings").iterdir()]
        log = (scratch / "log").read_text(errors="replace")
    finally:
        shutil.rmtree(scratch)
    _write_all(options.cases / name, inputs)
    _report(name, log, time.monotonic() - begun, len(inputs))
    if child.exitcode:
        print("\n".join(log.splitlines()[-_SHOWN_LINES:]), file=sys.stderr, flush=True)
    return bool(child.exitcode)


def _report(name: str, log: str, seconds: float, findings: int) -> None:
    tried = [
        int(count)
        for count in re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)", log, re.M)
    ]
    taken = re.findall(r" cov: (\d+)", log)
    print(
        f"{name}: {max(tried, default=0)} inputs, {(taken or [0])[-1]} branches, "
        f"{seconds:.0f} s, {findings} findings",
        flush=True,
    )


def _be_fuzzed(atheris: Any, parser: Any, scratch: Path, arguments: Sequence[str]) -> None:
    from tests.fuzz.judge import judge

    descriptor = os.open(scratch / "log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(descriptor, stream)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        changed: bytes = atheris.Mutate(content, most)
        return changed if seed % 8 == 0 else parser.repair(changed)

    def try_out(content: bytes) -> None:
        try:
            judge(parser, content)
        except BaseException:
            # The fuzzer itself writes only what hangs, or takes all memory, in a forked process.
            (scratch / "findings" / "raised").write_bytes(content)
            raise

    atheris.Setup([sys.argv[0], *arguments], try_out, custom_mutator=mutate)
    atheris.Fuzz()  # ends this process


def _arguments(scratch: Path, options: argparse.Namespace) -> list[str]:
    return [
        f"-artifact_prefix={scratch}/findings/",
        f"-dict={scratch}/words",
        f"-max_total_time={options.seconds}",
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_len={_MAX_BYTES}",
        "-rss_limit_mb=1024",
        "-timeout=20",
        "-print_final_stats=1",
    ]


def _known(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((_CASES / name).glob("*"))]


def _write_all(directory: Path, contents: Sequence[bytes]) -> None:
    """Write each under its digest; the directory is made where there is something to write."""
    for content in contents:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / sha256(content).hexdigest()[:16]).write_bytes(content)


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02X}" for byte in word) + '"\n'


if __name__ == "__main__":
    main()
