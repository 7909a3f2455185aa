"""Brings a rehearsal up and takes it down: the one module that demo, tests and people call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.rehearsal import programs, records, teardown
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.kube_build import build_kubernetes
from tests.rehearsal.progress import Progress, Silent
from tests.rehearsal.serving import await_ready
from tests.rehearsal.site import Site

# What process 1 hides from its programs: nothing that they need may lie there.
_HIDDEN = (Path("/run"), Path("/var/log"), Path("/var/lib"))


class Rehearsal:
    """One rehearsal, held by this process: it ends with the ``with`` block, or with the process.

    ::

        with Rehearsal(name="try") as site:
            site.kubectl("get", "nodes")
    """

    def __init__(
        self, *, name: str, state: Path | None = None, progress: Progress | None = None
    ) -> None:
        """Choose what to bring up.

        Args:
            name: What tells it from others on this machine. One of that name is replaced.
            state: Directory for all that it keeps: new or empty, removed with it. By default
                one below /var/tmp.
            progress: Is told of the compilation of Kubernetes, if there has to be one.

        Raises:
            RehearsalError: ``name`` is not usable.
        """
        self.name = records.check_name(name)
        self._state = (state or records.default_state(name)).absolute()
        self._progress = progress or Silent()
        self._keeper: subprocess.Popen[bytes] | None = None

    def up(self, *, detach: bool = False) -> Site:
        """Bring it up, and wait until everything answers and the node takes pods.

        Args:
            detach: Let it outlive this process, until ``down``.

        Raises:
            RehearsalError: Something is missing, or did not start.
        """
        kube = self._check()
        keeper = self._start_keeper(kube, detach=detach)
        try:
            await_ready(keeper)
        except BaseException:
            _let_go(keeper)
            raise
        if detach:
            keeper.returncode = 0  # it is not ours to wait for
            _close(keeper)
        else:
            self._keeper = keeper
        return Site.load(self._state)

    def down(self) -> None:
        """Take it down; nothing is left.

        Raises:
            RehearsalError: Something would not go.
        """
        if self._keeper is None:
            down(self.name)
            return
        _let_go(self._keeper)
        self._keeper = None
        record = records.read(self.name)
        if record is None or not record.alive():  # else somebody has replaced ours meanwhile
            down(self.name)

    def __enter__(self) -> Site:
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    def _check(self) -> Path:
        """Find what is missing before anything is changed; gives Kubernetes' program."""
        check_machine()
        _check_visible(self._state, programs.ROOT, Path(sys.prefix))
        kube = build_kubernetes(self._progress)
        _check_visible(kube)
        return kube

    def _start_keeper(self, kube: Path, *, detach: bool) -> subprocess.Popen[bytes]:
        arguments = [self.name, str(self._state), str(kube), "detached" if detach else "attached"]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.rehearsal.keeper", *arguments],
            stdin=subprocess.DEVNULL if detach else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=programs.environment(),
            cwd="/",
            start_new_session=True,
        )


def _check_visible(*paths: Path) -> None:
    for path in paths:
        for hidden in _HIDDEN:
            if path.resolve().is_relative_to(hidden):
                raise RehearsalError(f"{path}: expected it outside of {hidden}")


def check_machine() -> None:
    """Check that a rehearsal can run here at all.

    Raises:
        RehearsalError: We are not root, or programs are missing; the message says which.
    """
    if os.geteuid() != 0:
        raise RehearsalError("expected to be root: the rehearsal makes namespaces and mounts")
    programs.require(programs.PACKAGES)
    for program in ("weed", "moto_server", "kubectl"):
        programs.find_in_environment(program)


def down(name: str) -> None:
    """Take a rehearsal down by its name, whoever brought it up and whatever became of it.

    Raises:
        RehearsalError: Something would not go.
    """
    teardown.destroy(records.check_name(name))


def find(name: str) -> Site:
    """Give a rehearsal that somebody brought up.

    Raises:
        RehearsalError: There is none of that name.
    """
    record = records.read(records.check_name(name))
    if record is None or not record.alive():
        raise RehearsalError(f"{name}: no such rehearsal is up")
    return Site.load(record.state)


def _let_go(keeper: subprocess.Popen[bytes]) -> None:
    """End the leash and wait until the keeper has taken all down."""
    _close(keeper)
    keeper.wait()


def _close(keeper: subprocess.Popen[bytes]) -> None:
    for stream in (keeper.stdin, keeper.stdout):
        if stream is not None:
            stream.close()
