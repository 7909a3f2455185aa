"""The one error of this package."""

from __future__ import annotations


class RehearsalError(Exception):
    """Something of the rehearsal could not be started or stopped; the message is one line."""
