"""The ``bundle`` command: the one place with click, rich, the environment and exit statuses."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from bundler import __version__
from bundler.errors import BundleError, WorldError, printable

# Command -> module of bundler.cli, and the line that --help shows, so that --help imports nothing.
COMMANDS = {
    "lock": ("lock", "Pin every source of a release spec to its digest."),
    "build": ("build", "Build a release: the bundle, the checkpoint archives, their manifest."),
    "keygen": ("keygen", "Make a key pair that signs releases."),
    "key": ("key", "Show who a key is."),
    "sign": ("sign", "Sign a release."),
    "trust": ("trust", "Keep the file that says whose signatures count."),
    "split": ("split", "Cut the archives of a release into volumes that fit their media."),
    "verify": ("verify", "Check a release, or a part of one, against its signature."),
    "inspect": ("inspect", "Show what a release holds."),
    "extract": ("extract", "Unpack a checkpoint or the bundle to a directory, verified."),
    "target": ("target", "Write the file that says where a release goes."),
    "plan": ("plan", "Show what publish would do, and what is there already."),
    "publish": ("publish", "Bring a release to its target, until its models run."),
    "status": ("status", "Compare what is at the destination with what was signed."),
    "prune": ("prune", "Delete from the bucket what no release that stays needs."),
    "fetch": ("fetch", "Bring a checkpoint from S3 to a directory (runs in the pod)."),
    "version": ("version", "Show this version and the formats that it reads."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give all commands in the order of a release's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"bundler.cli.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a misspelt one gets the nearest as a hint."""
        name = args[0]
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        if near and name not in COMMANDS:
            ctx.fail(f"no command {name!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Tell on standard error what is called.")
def cli(verbose: bool) -> None:
    """Carry a self-hosted LLM across an air gap.

    Build, sign, verify and publish releases: container images, a Helm chart, model checkpoints.
    """
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("bundler").setLevel(logging.DEBUG)


def main() -> NoReturn:
    """Run the command, and end with a status of the table in README.md.

    The one place where an error turns into a message and an exit status.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        sys.exit(run(sys.argv[1:]))
    except BrokenPipeError:
        # Whoever read our output is gone; nothing can be told to them, not even by the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def run(arguments: list[str]) -> int:
    """Run one command; tell what went wrong, and give its exit status."""
    try:
        status = cli.main(arguments, prog_name=_program(), standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except BundleError as error:
        return _tell(str(error), error.hint, error.exit_status, arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        hint = f"{ctx.command_path if ctx else 'bundle'} --help"
        return _tell(error.format_message(), hint, error.exit_code, arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to go on", err=True)
        return 128 + signal.SIGINT
    except OSError as error:
        return _tell(str(error), None, WorldError.exit_status, arguments)
    except Exception:  # noqa: BLE001 - the boundary: a defect of ours ends in the log
        details = _keep(traceback.format_exc())
        return _tell(f"a defect of bundle itself; {details}", None, 1, arguments)
    return status if isinstance(status, int) else 0


def _program() -> str:
    """Give the name that the command was called by: completion depends on it."""
    name = Path(sys.argv[0]).name
    return name if name in {"bundle", "airgap-bundle"} else "bundle"


def _harmless(text: str) -> str:
    """Escape what moves a cursor, line by line: a last net below whoever names what is wrong."""
    return "\n".join(map(printable, text.split("\n")))


def _tell(message: str, hint: str | None, status: int, arguments: list[str]) -> int:
    try:
        if "--json" in arguments:
            click.echo(json.dumps({"error": message, "hint": hint, "exitStatus": status}))
        click.echo(click.style("error: ", fg="red", bold=True) + _harmless(message), err=True)
        if hint:
            click.echo(click.style("hint: ", fg="cyan") + _harmless(hint), err=True)
    except BrokenPipeError:
        raise
    except OSError:  # standard error is a file on a full disk: the status still tells
        return status
    return status


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _keep(details: str) -> str:
    """Write a traceback to the log; give where it is, or the text itself where nothing writes."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    log = Path(state, "bundle", "defects.log")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(details + "\n")
    except OSError:
        return details
    return f"details are in {log}"
