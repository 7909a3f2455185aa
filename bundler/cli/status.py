"""``bundle status``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import click

from bundler.archive.scratch import scratch_directory
from bundler.cli.opening import load_target, open_store, open_store_upkeep
from bundler.cli.options import DIRECTORY, json_option, print_json, target_option
from bundler.cli.plainly import tell_note
from bundler.cli.plan import only_option
from bundler.cli.registry import login_options, open_target_registry
from bundler.cli.render import Watcher
from bundler.cli.source_options import path_or_bucket, source_options
from bundler.cli.tables import print_tables
from bundler.cli.trust_options import trust_options
from bundler.describe import Section
from bundler.errors import CheckError, WorldError, printable
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.only import Only
from bundler.publish.status import Finding, Standing, Status, Subject
from bundler.publish.status_survey import Places, Survey, read_current
from bundler.publish.travelling import carry_along
from bundler.reference import S3Prefix
from bundler.release import open_release
from bundler.release_files import ReleaseFiles
from bundler.sizes import count_text, size_text
from bundler.stores.base import Registry
from bundler.stores.login import Login
from bundler.target import Target
from bundler.tools.cluster import open_cluster
from bundler.trust import Trust

# Of one kind, group and standing; all of them are in --json.
_MOST_LINES = 20
_COLUMNS = ("what", "standing", "which", "detail")


def _path_or_bucket(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> Path | S3Prefix | None:
    return None if text is None else path_or_bucket(DIRECTORY)(ctx, param, text)


@click.command()
@click.argument("release", required=False, callback=_path_or_bucket)
@source_options("release")
@target_option
@trust_options
@login_options
@only_option
@click.option(
    "--read-back",
    is_flag=True,
    help="Download and hash the objects for which the store keeps no checksum to compare.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    release: Path | ReleaseFiles | None,
    target_file: Path,
    trust: Trust,
    login: Login | None,
    only: Only,
    read_back: bool,
    as_json: bool,
) -> None:
    """Compare what is at the destination with what was signed.

    RELEASE is what should be there; without it, the release that the destination remembers as
    deployed, verified like any other. Changes nothing and downloads no checkpoint. Ends with 8
    where something is missing or different, or a checkpoint holds an object that was not signed.
    """
    target = load_target(target_file)
    with scratch_directory() as own, Watcher() as emit:
        places = _places(target, own, login)
        if release is None:  # what lies beside it there is judged there
            signed = read_current(places, target, trust)
        else:
            signed = carry_along(open_release(release, trust), tell_note)
        survey = Survey(
            release=signed,
            target=target,
            places=places,
            trust=trust,
            now=int(time.time()),
            only=only,
            read_back=read_back,
            emit=emit,
        )
        status = survey.status()
    if as_json:
        print_json(status.to_dict())
    else:
        show_status(status)
    if status.drift:
        ctx.exit(CheckError.exit_status)
    if status.unknown:
        ctx.exit(WorldError.exit_status)


def show_status(status: Status) -> None:
    """Print how a release stands: a line for all that is alike, then the sum."""
    print_tables(
        [Section(title=status.release, columns=_COLUMNS, rows=tuple(_rows(status.findings)))]
    )
    if status.drift:
        click.echo(
            f"{status.release}: not as it was signed: {count_text(len(status.drift), 'thing')}"
        )
    elif status.unknown:
        click.echo(f"{status.release}: not all could be asked")
    else:
        click.echo(f"{status.release}: all is there{_asked_less(status)}")


def _asked_less(status: Status) -> str:
    unproven = [item for item in status.findings if item.standing is Standing.UNPROVEN]
    if not unproven:
        return ""
    count = count_text(len(unproven), "object")
    return f"; {count} of the right size only: --read-back reads them"


def _rows(findings: Iterable[Finding]) -> Iterable[tuple[str, ...]]:
    groups: dict[tuple[Subject, str, Standing], list[Finding]] = {}
    for item in findings:
        groups.setdefault((item.subject, item.group, item.standing), []).append(item)
    for (subject, group, standing), items in groups.items():
        together = standing in {Standing.PRESENT, Standing.UNPROVEN} and len(items) > 1
        if together:
            details = {item.detail for item in items}
            which = f"{group} ({len(items)} files)" if group else f"{len(items)} of them"
            yield _row(subject, standing, which, details.pop() if len(details) == 1 else "")
            continue
        for item in items[:_MOST_LINES]:
            yield _row(subject, standing, item.name, item.detail)
        if len(items) > _MOST_LINES:
            rest = items[_MOST_LINES:]
            size = sum(item.size for item in rest)
            total = f", {size_text(size)}" if size else ""
            yield _row(subject, standing, f"and {len(rest)} more{total}", "--json names them all")


def _row(subject: Subject, standing: Standing, which: str, detail: str) -> tuple[str, ...]:
    return (str(subject), str(standing), printable(which), printable(detail))


def _places(target: Target, own: Path, login: Login | None) -> Places:
    cluster = open_cluster(target.kubernetes)

    def registry() -> Registry:
        return open_target_registry(target.registry, own, login=login, skopeo=False).registry

    return Places(
        store=open_store(target.s3),
        upkeep=open_store_upkeep(target.s3),
        registry=registry,
        installed=cluster.installed,
        remembered=lambda: ClusterMemory(target.kubernetes).read(cluster.get),
    )
