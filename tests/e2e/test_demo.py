"""README's first command, as it stands there, on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.fixtures import need
from tests.rehearsal.rehearsal import check_machine, find

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    need(check_machine)
    yield
    subprocess.run([CHECKOUT / "scripts" / "demo", "--down"], check=True)


def readme_commands() -> list[str]:
    """Give the commands that README tells a newcomer to run: its ``sh`` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)```$", (CHECKOUT / "README.md").read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def demo(*options: str) -> subprocess.Popen[str]:
    """Start the demo as README has it, in a session of its own, so that all of it can be killed."""
    [command, _] = readme_commands()
    return subprocess.Popen(
        [*command.split(), *options],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_readme_names_the_two_commands() -> None:
    assert readme_commands() == ["scripts/demo", "scripts/test"]


def pasted(said: str) -> str:
    """Run what the demo says how to go on, in a shell that knows nothing of it."""
    told = said.partition("Both sides are up.")[2].partition("To end them:")[0]
    script = "\n".join(line for line in told.splitlines() if line.startswith("  "))
    environment = {"HOME": os.environ["HOME"], "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    argv = ["bash", "-euc", script]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_works_after_everything_of_another_was_killed() -> None:
    killed = demo()
    assert killed.stdout is not None
    for line in killed.stdout:
        if "== 6." in line:
            break
    else:
        pytest.fail("the demo never came to its sixth step")
    time.sleep(2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()

    whole = demo("--keep")
    said, _ = whole.communicate()
    assert whole.returncode == 0, said[-4000:]
    assert [f"== {n}." in said for n in range(1, 10)] == [True] * 9
    assert "refused with exit status 5" in said
    told = pasted(said)
    for words in ("own.lock.json", "Running", "nothing to do", '"id": "MiniLM"'):
        assert words in told
    subprocess.run([CHECKOUT / "scripts" / "demo", "--down"], check=True)
    nothing_is_left()


def nothing_is_left() -> None:
    name = "demo-" + hashlib.sha256(f"{CHECKOUT.resolve()}\n".encode()).hexdigest()[:8]
    with pytest.raises(RehearsalError):
        find(name)
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert name not in spaces.stdout
    assert not [path for path in Path("/sys/fs/cgroup").glob(f"**/*{name}*") if path.is_dir()]
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if name.encode() in command]
    assert name not in Path("/proc/mounts").read_text()
