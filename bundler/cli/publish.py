"""``bundle publish``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bundler.cli.opening import DIRECT, ENGINES, allowances, open_publication, utc_now
from bundler.cli.options import (
    DIRECTORY,
    NEW_PATH,
    api_key_option,
    json_option,
    key_option,
    print_json,
    read_api_key,
    stale_options,
    target_option,
    volumes_option,
)
from bundler.cli.plan import plan_of, show_plan
from bundler.cli.registry import login_options
from bundler.cli.render import Watcher
from bundler.errors import CHANGES_PENDING
from bundler.jsontext import read_json
from bundler.publish.carry_out import publish
from bundler.publish.plan import Plan, require_no_conflicts
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions
from bundler.receipt import MAX_RECEIPT_BYTES, Receipt, encode_receipt
from bundler.stores.login import Login
from bundler.target import Target


@click.command()
@click.argument("release", type=DIRECTORY)
@target_option
@key_option
@volumes_option
@stale_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask before carrying the plan out.")
@api_key_option
@login_options
@click.option("--verify-first", is_flag=True, help="Read all that is to be sent before sending.")
@click.option(
    "--verify",
    "verify",
    type=click.Choice(["read-back"]),
    help="read-back: hash what the registry serves, before anything is tagged.",
)
@click.option(
    "--rehash", is_flag=True, help="Hash images while they are sent, though the registry does."
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 32),
    default=DEFAULT_OPTIONS.parallel,
    show_default=True,
    help="Layers to send at once, over all images.",
)
@click.option(
    "--image-engine",
    "engine",
    type=click.Choice(ENGINES),
    default=DIRECT,
    show_default=True,
    help="What pushes images: bundle itself, straight from the release, or skopeo.",
)
@click.option(
    "--values",
    "values_file",
    type=NEW_PATH,
    help="Where the chart's values go; <TARGET>.values.yaml.",
)
@click.option(
    "--receipts", type=DIRECTORY, help="Directory for the receipt; the target's, if not given."
)
@click.option("--scratch", type=DIRECTORY, help="Where skopeo unpacks one image at a time.")
@json_option
def command(
    release: Path,
    target_file: Path,
    key_files: tuple[Path, ...],
    volumes: tuple[Path, ...],
    allow_rollback: int | None,
    allow_expired: bool,
    reason: str | None,
    yes: bool,
    api_key_stdin: bool,
    login: Login | None,
    verify_first: bool,
    verify: str | None,
    rehash: bool,
    parallel: int,
    engine: str,
    values_file: Path | None,
    receipts: Path | None,
    scratch: Path | None,
    as_json: bool,
) -> None:
    """Bring a release to its target, until its models run.

    Images, checkpoint contents, chart. Shows the plan and carries it out, and nothing else; a
    conflict in it stops all before a byte is sent. Safe to run again at any time: what is there
    already is not sent.
    """
    api_key = read_api_key() if api_key_stdin else None
    values_path = values_file or target_file.with_suffix(".values.yaml")
    receipts = receipts or target_file.parent
    allowed = allowances(allow_rollback, allow_expired, reason)
    now = utc_now()
    with open_publication(
        release,
        key_files,
        target_file,
        volumes=volumes,
        api_key=api_key,
        login=login,
        engine=engine,
    ) as publication:
        plan = plan_of(publication, now, allowed)
        show_plan(plan, err=True)
        require_no_conflicts(plan)
        require_go_ahead(plan, yes=yes)
        with Watcher() as emit:
            receipt = publish(
                plan,
                publication.release,
                publication.target,
                publication.destination,
                secrets=publication.secrets,
                values_path=values_path,
                receipts=receipts,
                now=now,
                verify_first=verify_first,
                images=PushOptions(parallel=parallel, read_back=verify is not None, rehash=rehash),
                scratch_parent=scratch,
                emit=emit,
            )
    _tell(
        plan,
        receipt,
        target=publication.target,
        values_path=values_path,
        receipts=receipts,
        as_json=as_json,
    )


def require_go_ahead(plan: Plan, *, yes: bool) -> None:
    """Ask the person; where nobody can be asked, only ``--yes`` will do."""
    if yes or not plan.pending:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for a go-ahead: give --yes")
    if not click.confirm("Carry this out?", default=True, err=True):
        click.echo("nothing was done", err=True)
        click.get_current_context().exit(CHANGES_PENDING)


def _tell(
    plan: Plan,
    receipt: Receipt | None,
    *,
    target: Target,
    values_path: Path,
    receipts: Path,
    as_json: bool,
) -> None:
    if as_json:
        written = None
        if receipt is not None:
            content = encode_receipt(receipt)
            written = read_json(content, name="receipt", limit=MAX_RECEIPT_BYTES).value
        print_json({"plan": plan.to_dict(), "receipt": written})
        return
    if receipt is None:
        return  # the plan said so already
    click.echo(f"{plan.release}: published")
    click.echo(f"values   {values_path}")
    click.echo(f"receipt  {receipts / receipt.file_name}")
    for model in target.models or ():
        if model.ingress_host:
            click.echo(f"model    {model.key}: https://{model.ingress_host}/v1")
