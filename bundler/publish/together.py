"""Work that goes on side by side, and stops together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from bundler.process import end_children
from bundler.publish.upload import StoppedError

# How often programs are ended while a run that a signal ends waits for its threads.
_END_SECONDS = 0.1


def side_by_side(stop: threading.Event, *work: Callable[[], None]) -> None:
    """Do several pieces of work at once.

    Args:
        stop: Set as soon as one fails, or a signal ends us; the others are to give up then.
        work: What to do, each in a thread of its own.

    Raises:
        BundleError: Of the first piece that failed by itself.
    """
    with ThreadPoolExecutor(len(work)) as threads:
        jobs = [threads.submit(piece) for piece in work]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        except BaseException:  # a signal: whoever waits for a program would not see it
            stop.set()
            while wait(jobs, timeout=_END_SECONDS).not_done:
                end_children()
            raise
        finally:
            stop.set()
    errors = [error for job in jobs if (error := job.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, StoppedError)):
        raise error
