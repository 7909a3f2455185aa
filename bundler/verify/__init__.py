"""Compare a release, its archives, or what was extracted from them, with what was signed."""

from __future__ import annotations

from bundler.verify.closure import ChartClosure, ClosureReport, verify_closure
from bundler.verify.path import verify_path
from bundler.verify.report import Checked, Report
from bundler.verify.stream import verify_stream
from bundler.verify.unsigned import verify_unsigned

__all__ = [
    "ChartClosure",
    "Checked",
    "ClosureReport",
    "Report",
    "verify_closure",
    "verify_path",
    "verify_stream",
    "verify_unsigned",
]
