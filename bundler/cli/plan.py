"""``bundle plan``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from bundler.cli.opening import Publication, allowances, open_publication, utc_now
from bundler.cli.options import (
    DIRECTORY,
    api_key_option,
    json_option,
    key_option,
    print_json,
    read_api_key,
    stale_options,
    target_option,
    volumes_option,
)
from bundler.cli.registry import login_options
from bundler.cli.render import Watcher
from bundler.errors import CHANGES_PENDING, ConflictError, printable
from bundler.publish.plan import Plan, State, Step, require_no_conflicts
from bundler.publish.planning import make_plan
from bundler.publish.pointer import Allowances
from bundler.sizes import size_text
from bundler.stores.login import Login

_MARKS = {State.PRESENT: ("=", "green"), State.TO_DO: ("+", "yellow"), State.CONFLICT: ("!", "red")}


@click.command()
@click.argument("release", type=DIRECTORY)
@target_option
@key_option
@volumes_option
@stale_options
@api_key_option
@login_options
@click.option("--detailed-exitcode", is_flag=True, help="End with 10 where there is work to do.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    release: Path,
    target_file: Path,
    key_files: tuple[Path, ...],
    volumes: tuple[Path, ...],
    allow_rollback: int | None,
    allow_expired: bool,
    reason: str | None,
    api_key_stdin: bool,
    login: Login | None,
    detailed_exitcode: bool,
    as_json: bool,
) -> None:
    """Show what publish would do, and what is there already.

    Changes nothing.
    """
    allowed = allowances(allow_rollback, allow_expired, reason)
    api_key = read_api_key() if api_key_stdin else None
    with open_publication(
        release,
        key_files,
        target_file,
        volumes=volumes,
        api_key=api_key,
        login=login,
    ) as publication:
        plan = plan_of(publication, utc_now(), allowed)
    if as_json:
        print_json(plan.to_dict())
        if plan.conflicts:
            ctx.exit(ConflictError.exit_status)
    else:
        show_plan(plan)
        require_no_conflicts(plan)
    if detailed_exitcode and plan.pending:
        ctx.exit(CHANGES_PENDING)


def plan_of(publication: Publication, now: str, allowed: Allowances) -> Plan:
    """Make the plan for what was opened."""
    with Watcher() as emit:
        return make_plan(
            publication.release,
            publication.target,
            publication.destination,
            secrets=publication.secrets,
            now=now,
            allowances=allowed,
            emit=emit,
        )


def show_plan(plan: Plan, *, err: bool = False) -> None:
    """Print a plan for people: a line a step, or for the files of one checkpoint; then the sum."""
    for (state, text), steps in _grouped(plan.steps).items():
        mark, color = _MARKS[state]
        size = sum(step.size for step in steps) if state is State.TO_DO else 0
        count = f" ({len(steps)} files)" if len(steps) > 1 else ""
        line = f"{mark} {text}{count}" + (f"  {size_text(size)}" if size else "")
        click.echo(click.style(printable(line), fg=color), err=err)
    pending, conflicts = len(plan.pending), len(plan.conflicts)
    if plan.steps:
        click.echo("(= present, + to do, ! in conflict)", err=err)
    if not pending and not conflicts:
        click.echo(f"{plan.release}: all is there; nothing to do", err=err)
        return
    click.echo(
        f"{plan.release}: {pending} to do ({size_text(plan.pending_bytes)} to send), "
        f"{len(plan.steps) - pending - conflicts} present, {conflicts} in conflict",
        err=err,
    )


def _grouped(steps: Iterable[Step]) -> dict[tuple[State, str], list[Step]]:
    """Take the files of one checkpoint together where they stand alike; a conflict stays alone."""
    groups: dict[tuple[State, str], list[Step]] = {}
    for step in steps:
        together = step.group and step.state is not State.CONFLICT
        text = f"checkpoint {step.group}" if together else str(step)
        groups.setdefault((step.state, text), []).append(step)
    return groups
