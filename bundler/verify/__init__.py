"""Compare a release, its archives, or what was extracted from them, with what was signed."""

from __future__ import annotations

from bundler.verify.path import verify_path
from bundler.verify.report import Checked, Report

__all__ = ["Checked", "Report", "verify_path"]
