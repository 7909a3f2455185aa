from __future__ import annotations

import sys
import threading
import time

import pytest

from bundler.errors import ToolError, ToolFailedError, ToolNotFoundError
from bundler.process import end_children, run

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_program_is_given_its_input_and_variables_and_gives_its_output() -> None:
    script = "import os, sys; print(sys.stdin.read() + os.environ['MORE'])"
    assert run([sys.executable, "-c", script], stdin=b"in", env={"MORE": "+"}) == "in+\n"


def test_each_way_to_fail_has_its_error() -> None:
    with pytest.raises(ToolNotFoundError):
        run(["no-such-program"])
    with pytest.raises(ToolError, match=r"did not end within 0\.2 s"):
        run(SLEEP, timeout=0.2)
    with pytest.raises(ToolFailedError) as caught:
        run([sys.executable, "-c", "import sys; sys.exit('no')"])
    assert caught.value.stderr == "no\n"


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
