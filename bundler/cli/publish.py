"""``bundle publish``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from bundler.cli.opening import Publication, allowances, open_publication, utc_now
from bundler.cli.options import (
    DIRECTORY,
    NEW_PATH,
    api_key_option,
    json_option,
    print_json,
    read_api_key,
    stale_options,
    target_option,
    volumes_option,
)
from bundler.cli.plan import only_option, plan_of, show_plan
from bundler.cli.progress import clock_text
from bundler.cli.push_options import Pushing, push_options
from bundler.cli.registry import login_options
from bundler.cli.render import Watcher
from bundler.cli.source_options import path_or_bucket, source_options
from bundler.cli.trust_options import trust_options
from bundler.cli.upload_options import upload_options
from bundler.errors import CHANGES_PENDING
from bundler.jsontext import read_json
from bundler.publish.carry_out import publish
from bundler.publish.only import Only
from bundler.publish.plan import Plan, require_no_conflicts
from bundler.publish.rate_limit import RateLimit
from bundler.publish.upload import UploadOptions
from bundler.receipt import MAX_RECEIPT_BYTES, Receipt, encode_receipt
from bundler.release_files import ReleaseFiles, shown
from bundler.sizes import size_text
from bundler.stores.login import Login
from bundler.target import Target
from bundler.trust import Trust


@click.command()
@click.argument("release", callback=path_or_bucket(DIRECTORY))
@source_options("release")
@target_option
@trust_options
@volumes_option
@stale_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask before carrying the plan out.")
@api_key_option
@login_options
@click.option("--verify-first", is_flag=True, help="Read all that is to be sent before sending.")
@push_options
@upload_options
@only_option
@click.option(
    "--values",
    "values_file",
    type=NEW_PATH,
    help="Where the chart's values go; <TARGET>.values.yaml.",
)
@click.option(
    "--receipts", type=DIRECTORY, help="Directory for the receipt; the target's, if not given."
)
@json_option
def command(
    release: Path | ReleaseFiles,
    target_file: Path,
    trust: Trust,
    volumes: tuple[Path, ...],
    allow_rollback: int | None,
    allow_expired: bool,
    reason: str | None,
    yes: bool,
    api_key_stdin: bool,
    login: Login | None,
    verify_first: bool,
    pushing: Pushing,
    uploading: UploadOptions,
    only: Only,
    values_file: Path | None,
    receipts: Path | None,
    as_json: bool,
) -> None:
    """Bring a release to its target, until its models run.

    Images, checkpoint contents, chart. Shows the plan and carries it out, and nothing else; a
    conflict in it stops all before a byte is sent. Safe to run again at any time: what is there
    already is not sent.
    """
    carrying = _Carrying(
        only=only,
        pushing=pushing,
        uploading=uploading,
        verify_first=verify_first,
        values_path=values_file or target_file.with_suffix(".values.yaml"),
        receipts=receipts or target_file.parent,
        now=utc_now(),
    )
    allowed = allowances(allow_rollback, allow_expired, reason)
    with open_publication(
        release,
        trust,
        target_file,
        volumes=volumes,
        api_key=read_api_key() if api_key_stdin else None,
        login=login,
        engine=pushing.engine,
        only=only,
    ) as publication:
        plan = plan_of(publication, carrying.now, allowed, only)
        require_go_ahead(
            plan,
            yes=yes,
            as_json=as_json,
            reads_back=carrying.reads_back,
            limit=uploading.limit,
        )
        receipt = carrying.out(plan, publication)
    if as_json:
        _print_json(plan, receipt)
    elif receipt is not None:  # else the plan said so already
        _tell(receipt, publication.target, carrying)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carrying:
    """How a plan is carried out, and where the results go."""

    only: Only
    pushing: Pushing
    uploading: UploadOptions
    verify_first: bool
    values_path: Path
    receipts: Path
    now: str

    @property
    def reads_back(self) -> bool:
        """Whether images that are there are read, too."""
        return self.pushing.options.read_back and self.only.uses_registry

    def out(self, plan: Plan, publication: Publication) -> Receipt | None:
        with Watcher() as emit:
            return publish(
                plan,
                publication.release,
                publication.target,
                publication.destination,
                secrets=publication.secrets,
                values_path=self.values_path,
                receipts=self.receipts,
                now=self.now,
                verify_first=self.verify_first,
                images=self.pushing.options,
                upload=self.uploading,
                scratch_parent=self.pushing.scratch,
                emit=emit,
            )


def require_go_ahead(
    plan: Plan,
    *,
    yes: bool,
    as_json: bool = False,
    reads_back: bool = False,
    limit: RateLimit | None = None,
) -> None:
    """Show a plan, and ask the person; where nobody can be asked, only ``--yes`` will do."""
    if reads_back:
        show_plan(plan, err=True, then="nothing to send; its images are read back, with a receipt")
    else:
        show_plan(plan, err=True)
    require_no_conflicts(plan, shown=not as_json)
    if limit is not None and plan.pending_bytes:
        click.echo(f"{plan.release}: {_time_text(plan.pending_bytes, limit)}", err=True)
    if yes or not plan.pending:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            "nothing was sent: this is the plan, and there is no terminal to ask for a go-ahead; "
            "give --yes"
        )
    if not click.confirm("Carry this out?", default=True, err=True):
        click.echo("nothing was done", err=True)
        click.get_current_context().exit(CHANGES_PENDING)


def _time_text(size: int, limit: RateLimit) -> str:
    rate = limit.bytes_per_second
    return (
        f"sending all {size_text(size)} takes at least {clock_text(size / rate)} "
        f"at {size_text(rate)} a second"
    )


def _print_json(plan: Plan, receipt: Receipt | None) -> None:
    written = None
    if receipt is not None:
        content = encode_receipt(receipt)
        written = read_json(content, name="receipt", limit=MAX_RECEIPT_BYTES).value
    print_json({"plan": plan.to_dict(), "receipt": written})


def _tell(receipt: Receipt, target: Target, carrying: _Carrying) -> None:
    if receipt.images_read_back and not receipt.done:
        click.echo(f"{receipt.release}: all is there; its images were read back, and are as signed")
    elif not receipt.done:
        click.echo(f"{receipt.release}: all is there; the record that was missing is written")
    elif receipt.chart is None:
        click.echo(f"{receipt.release}: {' '.join(carrying.only.words)} published; no chart yet")
    else:
        click.echo(f"{receipt.release}: published")
        click.echo(f"values   {shown(carrying.values_path)}")
    click.echo(f"receipt  {shown(carrying.receipts / receipt.file_name)}")
    if receipt.chart is None:
        return
    for model in target.models or ():
        if model.ingress_host:
            click.echo(f"model    {model.key}: https://{model.ingress_host}/v1")
