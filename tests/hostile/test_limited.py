"""The limits hold: what they are there to find is found."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.hostile.guarded import NETWORK_STATUS
from tests.hostile.limited import SECONDS, Outcome, Place, require_clean
from tests.hostile.releases import signed

QUIET = Outcome(0, "", "", 0.1)


def test_the_first_call_to_a_network_ends_the_command(place: Place, good: Path) -> None:
    key = signed(place, good).key_file
    done = place.run(
        "verify", "s3://bucket/release", "--key", key, "--source-endpoint", "http://a.example"
    )
    assert done.status == NETWORK_STATUS
    assert "network: socket." in done.stderr
    with pytest.raises(AssertionError):
        require_clean(done, place, place.snapshot())


@pytest.mark.parametrize("path", ["sentinel", "work/evil", "work/new", "tmp/left", "home/left"])
def test_a_write_outside_the_destination_is_found(place: Place, path: str) -> None:
    before = place.snapshot()
    (place.out / "file").write_bytes(b"may be")
    require_clean(QUIET, place, before)
    (place.top / path).write_bytes(b"changed")
    with pytest.raises(AssertionError):
        require_clean(QUIET, place, before)


@pytest.mark.parametrize(
    "done",
    [
        Outcome(0, "", "", 60.0),
        Outcome(3, "", "error: \x1b[2J\n", 0.1),
        Outcome(3, "\u202e", "", 0.1),
        Outcome(1, "", "Traceback (most recent call last)\n", 0.1),
        Outcome(3, "", "error: of canary\n", 0.1),
    ],
)
def test_what_a_run_must_not_say_or_take_is_found(place: Place, done: Outcome) -> None:
    with pytest.raises(AssertionError):
        require_clean(done, place, place.snapshot())


def test_a_run_that_does_nothing_but_wait_takes_too_long(place: Place) -> None:
    key = place.input / "pipe.pub"
    os.mkfifo(key)

    def dawdle() -> None:
        with key.open("wb") as pipe:  # opened as soon as the command opens it
            time.sleep(SECONDS + 1)
            pipe.write(b"no key")

    threading.Thread(target=dawdle, daemon=True).start()
    done = place.run("key", "show", key)
    assert done.status == 3, done.stderr
    with pytest.raises(AssertionError, match=r"\d s: "):
        require_clean(done, place, place.snapshot())


def test_a_link_and_a_special_mode_at_the_destination_are_found(place: Place) -> None:
    before = place.snapshot()
    (place.out / "file").write_bytes(b"")
    (place.out / "file").chmod(0o4755)
    with pytest.raises(AssertionError):
        require_clean(QUIET, place, before)
    (place.out / "file").unlink()
    (place.out / "link").symlink_to("/etc/passwd")
    with pytest.raises(AssertionError):
        require_clean(QUIET, place, before)
