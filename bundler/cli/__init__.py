"""The ``bundle`` command: the one place with click, rich, the environment and exit statuses."""

from __future__ import annotations

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
from bundler.errors import BundleError

# Command -> module of bundler.cli, and the line that --help shows, so that --help imports nothing.
COMMANDS = {
    "lock": ("lock", "Pin every source of a release spec to its digest."),
    "build": ("build", "Build a release: the bundle, the checkpoint archives, their manifest."),
    "keygen": ("keygen", "Make a key pair that signs releases."),
    "sign": ("sign", "Sign a release."),
    "verify": ("verify", "Check a release, or a part of one, against its signature."),
    "inspect": ("inspect", "Show what a release holds."),
    "target": ("target", "Write the file that says where a release goes."),
    "plan": ("plan", "Show what publish would do, and what is there already."),
    "publish": ("publish", "Bring a release to its target, until its models run."),
    "fetch": ("fetch", "Bring a checkpoint from S3 to a directory (runs in the pod)."),
    "version": ("version", "Show this version and the formats that it reads."),
}
# Set by the --json option of whatever command runs.
JSON_OUTPUT = "bundler.cli.json"


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; turn an error of ours into a message and an exit status."""
        try:
            return super().invoke(ctx)
        except BundleError as error:
            _tell(error, as_json=ctx.meta.get(JSON_OUTPUT, False))
            ctx.exit(error.exit_status)


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
    """Run the command, and end with a status of the table in README.md."""
    signal.signal(signal.SIGTERM, _end)
    try:
        cli.main(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception:  # noqa: BLE001 - the boundary: a defect of ours ends in the log
        click.echo(f"error: a defect of bundle itself; {_keep(traceback.format_exc())}", err=True)
        sys.exit(1)
    sys.exit(0)


def _tell(error: BundleError, *, as_json: bool) -> None:
    if as_json:
        facts = {"error": str(error), "hint": error.hint, "exitStatus": error.exit_status}
        click.echo(json.dumps(facts))
    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + error.hint, err=True)


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
