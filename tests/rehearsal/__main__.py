"""The rehearsal for people: ``python -m tests.rehearsal up|down|list|env|build``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.rehearsal import go_build, records, rehearsal, tar_samples, verifiers
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.go_programs import PROGRAMS
from tests.rehearsal.kube_build import build_kubernetes
from tests.rehearsal.progress import to_stderr
from tests.rehearsal.rehearsal import Rehearsal


def _up(arguments: argparse.Namespace) -> None:
    begun = time.monotonic()
    one = Rehearsal(name=arguments.name, state=arguments.state, progress=to_stderr())
    site = one.up(detach=arguments.detach)
    print(f"{site.name} is up after {time.monotonic() - begun:.1f} s; inside: {site.enter} COMMAND")
    if arguments.detach:
        return
    print("it ends with this process: press Ctrl-C")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        one.down()


def _down(arguments: argparse.Namespace) -> None:
    rehearsal.down(arguments.name)


def _list(_: argparse.Namespace) -> None:
    for record in records.every():
        condition = "up" if record.alive() else "killed; take it down"
        print(f"{record.name}\t{record.state}\t{condition}")


def _env(arguments: argparse.Namespace) -> None:
    site = rehearsal.find(arguments.name)
    shown = site.variables() | (site.environment() if arguments.tools else {})
    for name, value in shown.items():
        print(f"export {name}={shlex.quote(value)}")


def _build(arguments: argparse.Namespace) -> None:
    for program in PROGRAMS:
        print(go_build.build(program, to_stderr()))
    print(verifiers.install(to_stderr()))
    print(tar_samples.install(to_stderr()))
    if arguments.kubernetes:
        print(build_kubernetes(to_stderr()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="bring one up, and hold it until Ctrl-C")
    up.add_argument("name")
    up.add_argument("--detach", action="store_true", help="let it outlive this command")
    up.add_argument("--state", type=Path, help="directory for all that it keeps")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="take one down, whatever became of it")
    down.add_argument("name")
    down.set_defaults(run=_down)
    commands.add_parser("list", help="list those of this machine").set_defaults(run=_list)
    env = commands.add_parser("env", help="print shell commands that set what one offers")
    env.add_argument("name")
    env.add_argument("--tools", action="store_true", help="also what kubectl, aws, skopeo read")
    env.set_defaults(run=_env)
    build = commands.add_parser("build", help="compile what was not compiled yet")
    build.add_argument("--no-kubernetes", dest="kubernetes", action="store_false")
    build.set_defaults(run=_build)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives an exit status."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except RehearsalError as error:
        print(f"rehearsal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
