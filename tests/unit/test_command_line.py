"""The command's frame: what --help says and imports, and how errors leave it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from bundler import errors
from bundler.cli import COMMANDS, cli, run
from bundler.cli import publish as publish_command
from bundler.cli.options import print_json
from bundler.cli.plainly import PlainLines, tell_note
from bundler.cli.render import Watcher
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.events import Advanced, Finished, Noted, Started
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.rate_limit import RateLimit

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
BUNDLE = Path(sys.prefix, "bin", "bundle")
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


def test_an_error_is_one_line_and_a_hint_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("formatVersion: 1\nrelease: {name: a, version: '1', sequance: 1}\n")
    assert run(["build", str(spec), "-o", str(tmp_path / "out")]) == 3
    told = capsys.readouterr()
    assert re.search(r"^error: .*spec\.yaml:2:", told.err)
    assert told.out == ""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["verify", str(FORMAT_1 / "tiny-inference-2026.11.0"), "--json"], 4),
        (["verify", "/absent", "--json"], 2),
        (["plan", "/absent", "--json"], 2),
    ],
)
def test_an_error_in_json_is_one_document(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == status
    assert json.loads(capsys.readouterr().out)["exitStatus"] == status


def test_faults_in_json_are_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Path(shutil.copytree(FORMAT_1 / "tiny-inference-2026.11.0", tmp_path / "release"))
    archive = next(release.glob("*.tar"))
    archive.write_bytes(archive.read_bytes()[:-512])
    assert run(["verify", str(release), "--key", str(FORMAT_1 / "release.pub"), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_misspelt_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verfy"]) == 2
    assert "did you mean 'verify'?" in capsys.readouterr().err


def test_target_init_writes_what_plan_reads(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    assert run(["target", "init", str(file)]) == 0
    assert run(["target", "init", str(file)]) == errors.ConflictError.exit_status
    assert "formatVersion: 1" in file.read_text()


def test_target_init_replaces_no_link(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    file.symlink_to("nowhere")
    assert run(["target", "init", str(file)]) == errors.ConflictError.exit_status
    assert file.readlink() == Path("nowhere")


def test_version_names_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reads"] == [1]


def test_a_passphrase_is_never_an_argument(tmp_path: Path) -> None:
    assert run(["keygen", str(tmp_path / "k"), "--passphrase", "x"]) == 2


def test_a_descriptor_that_is_not_open_is_wrong_usage(tmp_path: Path) -> None:
    assert run(["keygen", str(tmp_path / "k"), "--passphrase-fd", "999999"]) == 2


def test_keys_are_made_with_a_passphrase_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("correct horse\n")
    name = tmp_path / "keys" / "k"
    assert run(["keygen", str(name), "--passphrase-file", str(tmp_path / "pass")]) == 0
    private = name.with_suffix(".key")
    assert private.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in private.read_bytes()


def test_a_key_may_be_a_link_or_a_pipe(tmp_path: Path) -> None:
    link = tmp_path / "link.pub"
    link.symlink_to(FORMAT_1 / "release.pub")
    command = f"{BUNDLE} verify {FORMAT_1}/tiny-inference-2026.11.0 --key "
    for key in (str(link), f"<(cat {link})"):
        done = subprocess.run(["bash", "-c", command + key], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_gives_128_and_its_number(number: int, status: int, tmp_path: Path) -> None:
    waiting, held = os.pipe()
    # Whoever started the tests in the background may have had SIGINT ignored.
    argv = ["env", "--default-signal=INT", str(BUNDLE), "keygen", "k", "--passphrase-fd"]
    with subprocess.Popen(
        [*argv, str(waiting)], cwd=tmp_path, pass_fds=[waiting], stderr=subprocess.PIPE
    ) as process:
        time.sleep(1)
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    os.close(held)
    os.close(waiting)
    assert process.returncode == status
    assert b"Traceback" not in told


def test_a_full_disk_behind_standard_output_is_the_worlds_fault() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([BUNDLE, "version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == errors.WorldError.exit_status


def test_a_reader_that_is_gone_is_no_defect() -> None:
    release = FORMAT_1 / "tiny-inference-2026.11.0"
    command = f"{BUNDLE} inspect {release} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode in {0, 128 + signal.SIGPIPE}
    assert b"defect" not in done.stderr


def test_publish_asks_before_it_acts_or_wants_yes(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(
        release="r",
        manifest=Digest.of(b""),
        steps=(Step(kind=Kind.IMAGE, name="a:1", state=State.TO_DO),),
    )
    with pytest.raises(click.UsageError, match=r"nothing was sent: .* give --yes"):
        publish_command.require_go_ahead(plan, yes=False)
    assert "+ image a:1" in capsys.readouterr().err  # what there would be to agree to
    publish_command.require_go_ahead(plan, yes=True)


def test_a_plan_tells_the_least_time_that_a_limited_rate_allows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Step(kind=Kind.IMAGE, name="a:1", state=State.TO_DO, size=300 << 20)
    plan = Plan(release="r", manifest=Digest.of(b""), steps=(step,))
    publish_command.require_go_ahead(plan, yes=True)
    assert "takes at least" not in capsys.readouterr().err
    publish_command.require_go_ahead(plan, yes=True, limit=RateLimit(1 << 20))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "r: sending all 300.0 MiB takes at least 0:05:00 at 1.0 MiB a second"


@pytest.mark.parametrize("wrong", [False, True])
def test_what_was_read_and_is_wrong_does_not_end_like_success(
    capsys: pytest.CaptureFixture[str], wrong: bool
) -> None:
    with Watcher() as watch:
        watch(Started("verify", "a.tar", 10))
        watch(Advanced("a.tar", 10))
        watch(Finished("a.tar", wrong=wrong))
    [line] = capsys.readouterr().err.splitlines()
    assert (line == "verify a.tar: is not what was signed") is wrong


def test_what_was_on_its_way_when_something_failed_is_said_not_to_be_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def push() -> None:
        with Watcher() as watch:
            for number in range(6):
                watch(Started("push", f"image {number}", 10))
                watch(Advanced(f"image {number}", 10))
            watch(Finished("image 0"))
            raise ContentError("image 1: wrong")

    with pytest.raises(ContentError):
        push()
    done, *rest = capsys.readouterr().err.splitlines()
    assert done.startswith("push image 0: 0.")
    assert rest[0] == "push image 1: not finished"
    assert rest[-1] == "and 1 more: not finished"


def test_what_is_shown_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    for lines in (Watcher(), PlainLines()):
        with lines as tell:
            tell(Noted("evil\x1b[2Jname"))
    tell_note("evil\x1b[2Jname")
    assert "\x1b" not in capsys.readouterr().err


def test_no_error_moves_a_cursor_by_a_name_that_the_person_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "x\x1b]0;title\a.pub"
    key.write_bytes(b"no key")
    assert run(["verify", str(tmp_path), "--key", str(key)]) == 3
    said = capsys.readouterr().err
    assert "\\u001b]0;title\\u0007.pub" in said
    assert not set(said) & {"\x1b", "\a"}


def test_no_result_moves_a_cursor_by_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "x\x1b[2J\u202e"
    assert run(["keygen", str(name), "--no-passphrase"]) == 0
    assert not set(capsys.readouterr().out) & {"\x1b", "\u202e"}
    key = "llm/weights\u009b2J\u202e"
    print_json({"delete": [key]})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"delete": [key]}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_path_alone_is_as_it_is_unless_a_person_sees_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    file = tmp_path / "x\x1b[2J.yaml"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert run(["target", "init", str(file)]) == 0
    said = printable(str(file)) if terminal else str(file)
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize("descriptor", ["-1", "99999999999"])
def test_what_is_no_descriptor_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], descriptor: str
) -> None:
    assert run(["keygen", str(tmp_path / "k"), f"--passphrase-fd={descriptor}"]) == 2
    assert "--passphrase-fd" in capsys.readouterr().err
