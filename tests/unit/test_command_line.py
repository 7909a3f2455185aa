"""The command's frame: what --help says and imports, and how errors leave it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bundler import errors
from bundler.cli import COMMANDS, cli

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_each_command_with_its_own_first_line(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bundler.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "print([m for m in ('boto3','rich','yaml','cryptography','oras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_fetch_needs_nothing_that_the_pods_image_lacks() -> None:
    code = (
        "import sys; import bundler.cli.fetch, bundler.stores.s3;"
        "print([m for m in ('rich','yaml','cryptography','oras','securesystemslib')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_readme_has_every_exit_status() -> None:
    table = {int(n) for n in re.findall(r"^\| (\d+) \|", README.read_text(), re.MULTILINE)}
    classes = [e for e in vars(errors).values() if isinstance(e, type)]
    ours = {e.exit_status for e in classes if issubclass(e, errors.BundleError)}
    assert table == ours | {0, 2, errors.CHANGES_PENDING}


def test_an_error_is_one_line_and_a_hint_and_a_status(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("formatVersion: 1\nrelease: {name: a, version: '1', sequance: 1}\n")
    done = CliRunner().invoke(cli, ["build", str(spec), "-o", str(tmp_path / "out")])
    assert done.exit_code == 3
    assert re.search(r"^error: .*spec\.yaml:2:", done.stderr)
    assert done.stdout == ""


def test_an_error_in_json_is_one_document(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["verify", str(tmp_path), "--json"])
    assert json.loads(done.stdout)["exitStatus"] == done.exit_code != 0


def test_target_init_writes_what_plan_reads(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    assert CliRunner().invoke(cli, ["target", "init", str(file)]).exit_code == 0
    again = CliRunner().invoke(cli, ["target", "init", str(file)])
    assert again.exit_code == errors.ConflictError.exit_status
    assert "formatVersion: 1" in file.read_text()


def test_version_names_the_formats() -> None:
    done = CliRunner().invoke(cli, ["version", "--json"])
    assert json.loads(done.stdout)["reads"] == [1]


def test_a_passphrase_is_never_an_argument(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["keygen", str(tmp_path / "k"), "--passphrase", "x"])
    assert done.exit_code == 2


def test_keys_sign_with_a_passphrase_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("correct horse\n")
    made = CliRunner().invoke(
        cli, ["keygen", str(tmp_path / "k"), "--passphrase-file", str(tmp_path / "pass"), "--json"]
    )
    assert made.exit_code == 0, made.stderr
    assert (tmp_path / "k.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "k.key").read_bytes()
