"""A release that nobody has signed yet, against its own manifest: for whoever is about to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.events import Emit, ignore
from bundler.manifest import Manifest
from bundler.release_files import shown
from bundler.verify.archives import check_archives
from bundler.verify.path import RELEASE
from bundler.verify.report import Findings, Report


def verify_unsigned(
    directory: Path,
    manifest: Manifest,
    *,
    elsewhere: Sequence[Path] = (),
    emit: Emit = ignore,
) -> Report:
    """Compare every byte of a release's archives with its manifest; none may be absent.

    Args:
        directory: Of the release.
        manifest: As it is about to be signed: whether it agrees with SHA256SUMS is judged already.
        elsewhere: Where else archives and volumes may lie.
        emit: Told of progress; may be called from other threads.

    Raises:
        WorldError: Something cannot be read.
    """
    findings = Findings(require_all=True, images=manifest.images, emit=emit)
    check_archives(directory, manifest, findings, elsewhere)
    return findings.report(shown(directory), RELEASE, manifest.release.directory)
