from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from bundler.cli.push_options import Pushing, push_options
from bundler.cli.upload_options import upload_options
from bundler.publish.upload import UploadOptions


@click.command()
@push_options
@upload_options
def command(pushing: Pushing, uploading: UploadOptions) -> None:
    """Say what was chosen."""
    shared = uploading.limit is pushing.options.limit
    limited = uploading.limit is not None
    click.echo(f"{uploading.parallel} {uploading.rehash} {limited} {shared}")


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], "None False False True"),
        (["--limit-rate", "10M"], "None False True True"),
        (["--upload-parallel", "7", "--rehash"], "7 True False True"),
    ],
)
def test_one_limit_is_for_all_that_is_sent(arguments: list[str], chosen: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.output == f"{chosen}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit-rate", "fast"], "expected a size such as 700MB"),
        (["--limit-rate", "0"], "expected 1 byte or more"),
        (["--upload-parallel", "0"], "not in the range 1<=x<=32"),
        (["--upload-parallel", "33"], "not in the range 1<=x<=32"),
        (["--limit-rate", "1M", "--image-engine", "skopeo"], "skopeo knows no limit"),
    ],
)
def test_what_cannot_be_kept_is_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
