"""``bundle prune``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from bundler.cli.opening import load_target, open_store, open_store_upkeep
from bundler.cli.options import json_option, parsed, print_json, target_option
from bundler.cli.render import Watcher
from bundler.cli.trust_options import trust_options
from bundler.errors import CHANGES_PENDING, ConflictError, printable
from bundler.events import Emit
from bundler.publish.ages import age_text, parse_age
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.prune import Rules
from bundler.publish.prune_carry_out import Pruned, prune
from bundler.publish.prune_plan import PrunePlan, by_folder
from bundler.publish.prune_survey import PruneSurvey
from bundler.sizes import count_text, size_text
from bundler.stores.upkeep import HeldObject, Upkeep
from bundler.target import Target
from bundler.tools.cluster import open_cluster
from bundler.trust import Trust

_DEFAULT = Rules()
_SHOWN = 5


@click.command()
@target_option
@trust_options
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=_DEFAULT.keep,
    show_default=True,
    help="How many releases stay, counted from the deployed one down; newer ones stay too.",
)
@click.option(
    "--older-than",
    show_default=age_text(_DEFAULT.age),
    metavar="AGE",
    callback=parsed(parse_age),
    help="Nothing younger goes: somebody may be at work on it. What --release names goes at any "
    "age if none is given.",
)
@click.option(
    "--release",
    "named",
    multiple=True,
    metavar="NAME",
    help="Only this release, and what no other needs; repeatable. Works without a cluster.",
)
@click.option(
    "--uploads",
    "only_uploads",
    is_flag=True,
    help="Only end multipart uploads that nobody has touched for --older-than.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before deleting.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    target_file: Path,
    trust: Trust,
    keep: int,
    older_than: int | None,
    named: tuple[str, ...],
    only_uploads: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete from the bucket what no release that stays needs.

    Shows first what would go, and asks. What is deployed, what one goes back to, and what stored
    values of the Helm release name never goes. Images are never deleted: the registry has its own
    means for that. Do not publish to the same place meanwhile.
    """
    if only_uploads and named:
        raise click.UsageError("--uploads and --release do not go together")
    target = load_target(target_file)
    upkeep = open_store_upkeep(target.s3)
    rules = Rules(keep=keep, older_than=older_than, named=named)
    with Watcher() as emit:
        survey = _survey(target, upkeep, trust, rules, emit)
        look = survey.plan_uploads if only_uploads else survey.plan
        plan = look()
    show_plan(plan)
    done: Pruned | None = None
    if plan.going and _may_go(yes=yes):
        if not yes:
            _require_same(plan, look())
        with Watcher() as emit:
            done = prune(plan, upkeep, emit=emit)
    _tell(plan, done, as_json=as_json)
    if plan.going and done is None:
        ctx.exit(CHANGES_PENDING)


def show_plan(plan: PrunePlan) -> None:
    """Print for people what would go and what stays, and why."""
    for mark, color, items in (("-", "red", plan.going), ("=", "green", plan.staying)):
        for item in items:
            count = f" ({count_text(len(item.objects), 'object')})" if item.objects else ""
            size = f"  {size_text(item.size)}" if item.size else ""
            line = f"{mark} {item.thing} {item.name}{count}{size}: {item.reason}"
            click.echo(click.style(printable(line), fg=color), err=True)
            _show_some([found.key for found in item.objects])
    if plan.going or plan.staying:
        click.echo("(- goes, = stays)", err=True)
    if plan.foreign:
        _show_foreign(plan.foreign)
    if not plan.going:
        click.echo("nothing to delete", err=True)
        return
    click.echo(f"to delete: {size_text(plan.size)}; images are never deleted", err=True)


def _show_foreign(foreign: Sequence[HeldObject]) -> None:
    size = size_text(sum(item.size for item in foreign))
    count = count_text(len(foreign), "object")
    text = f"not known to be publish's, so it stays: {count}, {size}"
    click.echo(text, err=True)
    _show_some(by_folder(foreign))


def _show_some(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        click.echo(printable(f"    {line}"), err=True)
    if len(lines) > _SHOWN:
        click.echo(f"    and {len(lines) - _SHOWN} more; --json names every object", err=True)


def _survey(target: Target, upkeep: Upkeep, trust: Trust, rules: Rules, emit: Emit) -> PruneSurvey:
    cluster = open_cluster(target.kubernetes)
    return PruneSurvey(
        store=open_store(target.s3),
        upkeep=upkeep,
        place=target.s3.place,
        revisions=cluster.release.revisions,
        remembered=lambda: ClusterMemory(target.kubernetes).read(cluster.get),
        trust=trust,
        rules=rules,
        now=int(time.time()),
        emit=emit,
    )


def _may_go(*, yes: bool) -> bool:
    """Ask the person; where nobody can be asked, only ``--yes`` will do."""
    if yes:
        return True
    if not sys.stdin.isatty():
        click.echo("nothing was deleted: no terminal to ask for a go-ahead; give --yes", err=True)
        return False
    if click.confirm("Delete this?", default=False, err=True):
        return True
    click.echo("nothing was deleted", err=True)
    return False


def _require_same(shown: PrunePlan, now: PrunePlan) -> None:
    if not shown.same_as(now):
        raise ConflictError(
            "what may go changed while it was shown: somebody works at the destination",
            hint="nothing was deleted; run again",
        )


def _tell(plan: PrunePlan, done: Pruned | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"plan": plan.to_dict(), "done": done.to_dict() if done else None})
        return
    if done is None:
        return
    if done.deleted:
        click.echo(f"deleted  {count_text(done.deleted, 'object')}")
    if done.hidden:
        click.echo(
            f"hidden   {count_text(done.hidden, 'object')} behind delete markers: the bucket keeps "
            "versions, so their bytes stay, and are paid for, until a lifecycle rule removes old "
            "versions"
        )
    if done.ended:
        click.echo(f"ended    {count_text(done.ended, 'upload')}")
