from __future__ import annotations

import json
import os
import sys
import threading
import time

import pytest

from bundler.errors import ToolError, ToolFailedError, ToolNotFoundError
from bundler.process import end_children, run, run_alone

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_program_is_given_its_input_and_variables_and_gives_its_output() -> None:
    script = "import os, sys; print(sys.stdin.read() + os.environ['MORE'])"
    assert run([sys.executable, "-c", script], stdin=b"in", env={"MORE": "+"}) == "in+\n"


def test_a_program_that_logs_in_nowhere_gets_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("HELM_KUBETOKEN", "hush")
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    shown = json.loads(run_alone([sys.executable, "-c", script], env={"MORE": "+"}))
    assert "hush" not in shown.values()
    assert {name: shown[name] for name in ("PATH", "HOME")} == {
        name: os.environ[name] for name in ("PATH", "HOME")
    }
    assert shown["MORE"] == "+"


def test_each_way_to_fail_has_its_error() -> None:
    with pytest.raises(ToolNotFoundError):
        run(["no-such-program"])
    with pytest.raises(ToolError, match=r"did not end within 0\.2 s"):
        run(SLEEP, timeout=0.2)
    with pytest.raises(ToolFailedError) as caught:
        run([sys.executable, "-c", "import sys; print('output'); sys.exit('no')"])
    assert (caught.value.stderr, caught.value.stdout) == ("no\n", "output\n")
    assert "output" not in str(caught.value)


def test_a_program_may_not_write_without_end() -> None:
    for stream in ("stdout", "stderr"):
        script = f"import sys\nwhile True: sys.{stream}.write('x' * 65536)"
        with pytest.raises(ToolFailedError, match="wrote more than 1000000 bytes"):
            run([sys.executable, "-c", script], limit=1_000_000, timeout=60)
    script = "print('x' * 999_999)"
    assert len(run([sys.executable, "-c", script], limit=1_000_000)) == 1_000_000


def test_more_input_than_a_pipe_holds_is_written_while_the_output_is_read() -> None:
    script = "import sys; sys.stdout.write(sys.stdin.read())"
    text = b"x" * 3_000_000
    assert run([sys.executable, "-c", script], stdin=text, timeout=60) == text.decode()
    assert run([sys.executable, "-c", "pass"], stdin=text, timeout=60) == ""


def test_a_program_that_a_thread_waits_for_can_be_ended() -> None:
    errors: list[ToolFailedError] = []

    def work() -> None:
        try:
            run(SLEEP)
        except ToolFailedError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    began = time.monotonic()
    while thread.is_alive() and time.monotonic() - began < 20:
        end_children()
        thread.join(0.05)
    assert not thread.is_alive()
    assert len(errors) == 1
