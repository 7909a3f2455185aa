"""``bundle plan``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from bundler.cli.opening import Publication, allowances, open_publication, utc_now
from bundler.cli.options import (
    DIRECTORY,
    api_key_option,
    json_option,
    print_json,
    read_api_key,
    stale_options,
    target_option,
    volumes_option,
)
from bundler.cli.registry import login_options
from bundler.cli.render import Watcher
from bundler.cli.source_options import path_or_bucket, source_options
from bundler.cli.trust_options import trust_options
from bundler.errors import CHANGES_PENDING, ConflictError, printable
from bundler.parts import SMALLEST_PART
from bundler.publish.only import PARTS, Only
from bundler.publish.plan import Kind, Plan, State, Step, counted, require_no_conflicts
from bundler.publish.planning import make_plan
from bundler.publish.pointer import Allowances
from bundler.release_files import ReleaseFiles
from bundler.sizes import size_text
from bundler.stores.login import Login
from bundler.trust import Trust

_MARKS = {
    State.PRESENT: ("=", "green"),
    State.TO_DO: ("+", "yellow"),
    State.CONFLICT: ("!", "red"),
}
_NOTHING = "nothing to do"

only_option = click.option(
    "--only",
    "only",
    multiple=True,
    metavar="|".join((*PARTS, "KEY")),
    callback=lambda _ctx, _param, words: Only(words),
    help="Only these parts, KEY being the checkpoint of one model; repeatable.",
)


@click.command()
@click.argument("release", callback=path_or_bucket(DIRECTORY))
@source_options("release")
@target_option
@trust_options
@volumes_option
@stale_options
@api_key_option
@login_options
@only_option
@click.option("--detailed-exitcode", is_flag=True, help="End with 10 where there is work to do.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    release: Path | ReleaseFiles,
    target_file: Path,
    trust: Trust,
    volumes: tuple[Path, ...],
    allow_rollback: int | None,
    allow_expired: bool,
    reason: str | None,
    api_key_stdin: bool,
    login: Login | None,
    only: Only,
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
        trust,
        target_file,
        volumes=volumes,
        api_key=api_key,
        login=login,
        only=only,
    ) as publication:
        plan = plan_of(publication, utc_now(), allowed, only)
    if as_json:
        print_json(plan.to_dict())
        if plan.conflicts:
            ctx.exit(ConflictError.exit_status)
    else:
        show_plan(plan)
        require_no_conflicts(plan, shown=True)
    if detailed_exitcode and plan.pending:
        ctx.exit(CHANGES_PENDING)


def plan_of(publication: Publication, now: str, allowed: Allowances, only: Only) -> Plan:
    """Make the plan for what was opened."""
    with Watcher() as emit:
        return make_plan(
            publication.release,
            publication.target,
            publication.destination,
            secrets=publication.secrets,
            now=now,
            allowances=allowed,
            only=only,
            emit=emit,
        )


def show_plan(plan: Plan, *, err: bool = False, then: str = _NOTHING) -> None:
    """Print a plan for people: a line a step, or for the files of one checkpoint; then the sum.

    What was not asked for stands in the sum alone. ``then`` says what is done where all is there.
    """
    asked = [step for step in plan.steps if step.state in _MARKS]
    for (state, text), steps in _grouped(asked).items():
        mark, color = _MARKS[state]
        size = sum(step.size for step in steps) if state is State.TO_DO else 0
        count = f" ({len(steps)} files)" if len(steps) > 1 else ""
        line = f"{mark} {text}{count}" + (f"  {size_text(size)}" if size else "")
        click.echo(click.style(printable(line), fg=color), err=err)
    used = [f"{mark} {state}" for state, (mark, _) in _MARKS.items() if plan.in_state(state)]
    if used:
        click.echo(f"({', '.join(used)})", err=err)
    for line in _sums(plan, then):
        click.echo(f"{plan.release}: {line}", err=err)


def _sums(plan: Plan, then: str) -> Iterator[str]:
    """Count what the lines stand for: each file of a checkpoint by itself."""
    if plan.pending:
        sent = f"{size_text(plan.pending_bytes)} to send"
        if any(_may_be_there_in_part(step) for step in plan.pending):
            sent = f"up to {sent}: parts that an earlier run left there do not go again"
        if plan.shared_bytes:
            more = size_text(plan.shared_bytes)
            sent += f"; {more} more if the registry does not mount what images share"
        yield f"to do: {counted(plan.pending)}; {sent}"
    for state in (State.CONFLICT, State.PRESENT, State.NOT_ASKED):
        if steps := plan.in_state(state):
            yield f"{state}: {counted(steps)}"
    if not plan.pending and not plan.conflicts:
        rest = " of what was asked for" if plan.in_state(State.NOT_ASKED) else ""
        yield f"all{rest} is there; {then}"


def _may_be_there_in_part(step: Step) -> bool:
    return step.kind is Kind.CHECKPOINT_FILE and step.size > SMALLEST_PART


def _grouped(steps: Iterable[Step]) -> dict[tuple[State, str], list[Step]]:
    """Take the files of one checkpoint together where they stand alike; a conflict stays alone."""
    groups: dict[tuple[State, str], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.state, _text(step)), []).append(step)
    return groups


def _text(step: Step) -> str:
    if step.state is State.CONFLICT:
        return str(step)
    if step.group:
        return f"checkpoint {step.group}"
    detail = f": {step.detail}" if step.detail else ""
    return f"{step.kind} {step.place or step.name}{detail}"
