"""A registry's login from the command line, and what a target's registry comes to with it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bundler.cli.plan import command as plan
from bundler.cli.publish import command as publish
from bundler.cli.push_options import Pushing, push_options
from bundler.cli.registry import login_options, open_target_registry
from bundler.errors import MalformedError
from bundler.publish.push import PushOptions
from bundler.stores.login import Login
from bundler.target import EcrTarget, RegistryTarget

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"


@click.command()
@login_options
@click.option("--api-key-stdin", is_flag=True)
def show(login: Login | None, api_key_stdin: bool) -> None:
    click.echo(repr((login, login and login.password)))


def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    result = CliRunner().invoke(show, list(arguments), input=stdin)
    if isinstance(result.exception, MalformedError):
        return 3, str(result.exception)
    return result.exit_code, result.output


@pytest.mark.parametrize("written", [b"pa ss:w\xc3\xb6rd", b"pa ss:w\xc3\xb6rd\n"])
def test_a_password_comes_by_file_or_standard_input(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(written)
    login = Login("me", "pa ss:w\u00f6rd")
    expected = (0, repr((login, login.password)) + "\n")
    assert run("--registry-user", "me", "--registry-password-file", str(file)) == expected
    assert run("--registry-user", "me", "--registry-password-stdin", stdin=written) == expected


def test_without_options_there_is_no_login() -> None:
    assert run() == (0, "(None, None)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--registry-user", "me"],
        ["--registry-password-stdin"],
        ["--registry-password-file", __file__],
        [
            "--registry-user",
            "me",
            "--registry-password-stdin",
            "--registry-password-file",
            __file__,
        ],
        ["--registry-user", "me:you", "--registry-password-stdin"],
        ["--registry-user", "", "--registry-password-stdin"],
        ["--registry-user", "me", "--registry-password-stdin", "--api-key-stdin"],
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str]) -> None:
    status, output = run(*arguments, stdin=b"secret")
    assert status == 2
    assert "secret" not in output


@pytest.mark.parametrize(
    "written", [b"", b"\n", b"secret\nmore\n", b"secret\0", b"secret\xff", b"secret" * 20_000]
)
def test_what_is_no_password_is_refused_and_not_shown(written: bytes) -> None:
    status, output = run("--registry-user", "me", "--registry-password-stdin", stdin=written)
    assert status == 3
    assert "secret" not in output


def test_plan_and_publish_take_the_same_logins() -> None:
    for command in (plan, publish):
        names = {option for each in command.params for option in each.opts}
        assert {"--registry-user", "--registry-password-stdin", "--registry-password-file"} < names


@pytest.mark.parametrize(("number", "status"), [("0", 2), ("33", 2), ("x", 2)])
def test_as_many_blobs_at_once_as_is_sane(number: str, status: int, tmp_path: Path) -> None:
    arguments = [str(tmp_path), "--target", __file__, "--parallel", number]
    result = CliRunner().invoke(publish, arguments)
    assert result.exit_code == status
    assert "--parallel" in result.output
    assert PushOptions().parallel == 4


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--image-engine", "skopeo", "--parallel", "4"], "--parallel goes with"),
        (["--scratch", "."], "--scratch goes with --image-engine skopeo"),
        (["--image-engine", "direct", "--scratch", "."], "--scratch goes with"),
        (["--image-engine", "skopeo", "--scratch", "."], ""),
        (["--parallel", "8"], ""),
    ],
)
def test_an_option_that_the_engine_would_pass_over_is_refused(
    tmp_path: Path, arguments: list[str], wrong: str
) -> None:
    given = [str(tmp_path), "--target", __file__, "--yes", *arguments]
    result = CliRunner().invoke(publish, given)
    assert (result.exit_code == 2) is bool(wrong)
    assert wrong in result.output


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], PushOptions()),
        (["--parallel", "7"], PushOptions(parallel=7)),
        (["--verify", "read-back"], PushOptions(read_back=True)),
        (["--rehash"], PushOptions(rehash=True)),
    ],
)
def test_what_was_chosen_reaches_the_push(arguments: list[str], chosen: PushOptions) -> None:
    found: list[Pushing] = []

    @click.command()
    @push_options
    def keep(pushing: Pushing) -> None:
        found.append(pushing)

    assert CliRunner().invoke(keep, arguments).exit_code == 0
    assert found == [Pushing(engine="direct", options=chosen, scratch=None)]
    found.clear()
    skopeo = ["--image-engine", "skopeo", "--scratch", "."]
    assert CliRunner().invoke(keep, skopeo).exit_code == 0
    assert found == [Pushing(engine="skopeo", options=PushOptions(), scratch=Path())]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("host", "settings", "given", "written", "makes_repositories"),
    [
        (ECR, None, False, False, True),
        (ECR, None, True, False, False),
        (ECR, None, False, True, False),
        (ECR, EcrTarget(), True, False, True),
        (ECR, EcrTarget(), False, True, True),
        ("ecr.example.com", EcrTarget(region="eu-central-1"), False, False, True),
        ("registry.example.com", None, False, False, False),
        ("registry.example.com", None, True, False, False),
    ],
)
def test_ecr_makes_repositories_unless_somebody_else_logs_in(
    tmp_path: Path,
    host: str,
    settings: EcrTarget | None,
    given: bool,
    written: bool,
    makes_repositories: bool,
) -> None:
    authfile = tmp_path / "auth.json"
    token = base64.b64encode(b"me:secret").decode()
    authfile.write_text(json.dumps({"auths": {host: {"auth": token}}}))
    target = RegistryTarget(host=host, ecr=settings, auth_file=authfile if written else None)
    login = Login("me", "secret") if given else None
    opened = open_target_registry(target, tmp_path, login=login, skopeo=False)
    assert (opened.repositories is not None) is makes_repositories
