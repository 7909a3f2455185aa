"""What a path is: a release, one of its archives, or what was extracted from one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import ContentError, MalformedError, StaleError, printable
from bundler.events import Emit, ignore
from bundler.manifest import Manifest
from bundler.release import TrustedRelease, check_expiry, find_release, open_release
from bundler.signing.keys import PublicKey
from bundler.sums import SUMS_NAME
from bundler.verify.archives import check_archive, check_release_directory
from bundler.verify.extracted import (
    check_extracted_bundle,
    check_extracted_checkpoint,
    find_checkpoint,
)
from bundler.verify.report import Findings, Report

_CONTENTS_NAME = "CONTENTS.sha256"


def verify_path(
    path: Path,
    keys: Sequence[PublicKey],
    *,
    now: str,
    release_dir: Path | None = None,
    strict: bool = False,
    require_all: bool = False,
    allow_expired: bool = False,
    emit: Emit = ignore,
) -> Report:
    """Compare every byte at a path with what was signed; extracts nothing.

    The signature comes first, then the manifest, then the archives, read once, on all cores. What
    differs in an archive or an extracted directory is collected; anything before it raises.

    Args:
        path: A release directory, a bundle or checkpoint archive, or a directory that one was
            extracted to.
        keys: Whom to trust: keys that did not come with the release.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``, to judge the release's expiry by.
        release_dir: Where SHA256SUMS, its signatures and MANIFEST.json lie; where not given, in
            ``path`` or beside it.
        strict: Make everything that is not signed a fault.
        require_all: Make an absent checkpoint archive of a release directory a fault.
        allow_expired: Go on with an expired release, and say so in the report.
        emit: Told of progress; may be called from other threads.

    Raises:
        UntrustedError: No key was given, or none of them signed this release.
        StaleError: The release is expired.
        ContentError: MANIFEST.json differs from what was signed, or does not name this file.
        MalformedError: A small file is broken, or nothing says what a directory was extracted from.
        WorldError: Something cannot be read.
    """
    release = open_release(find_release(path, release_dir), keys)
    expired = _judge_expiry(release.manifest, now, allow_expired=allow_expired)
    findings = Findings(strict=strict, require_all=require_all, emit=emit)
    kind = _check(path, release, findings)
    return Report(
        path=str(path),
        kind=kind,
        release=release.manifest.release.directory,
        signatures=release.signatures,
        checked=tuple(findings.checked),
        absent=tuple(findings.absent),
        extra=tuple(findings.extra),
        expired=expired,
        faults=tuple(findings.faults),
    )


def _judge_expiry(manifest: Manifest, now: str, *, allow_expired: bool) -> str | None:
    try:
        check_expiry(manifest, now=now)
    except StaleError as error:
        if not allow_expired:
            raise
        return str(error)
    return None


def _check(path: Path, release: TrustedRelease, findings: Findings) -> str:
    manifest = release.manifest
    if not path.is_dir():
        return _check_file(path, manifest, findings)
    if os.path.lexists(path / SUMS_NAME):
        check_release_directory(path, release, findings)
        return "release"
    # Called alike, a release directory and an extracted bundle differ in what lies in them.
    if os.path.lexists(path / _CONTENTS_NAME):
        return _check_extracted_bundle(path, manifest, findings)
    if any(os.path.lexists(path / name) for name in manifest.archives):
        check_release_directory(path, release, findings)
        return "release"
    if path.resolve().name == manifest.bundle.root:
        return _check_extracted_bundle(path, manifest, findings)
    checkpoint = find_checkpoint(path, manifest.checkpoints)
    if checkpoint is None:
        names = ", ".join(item.root for item in manifest.checkpoints)
        raise MalformedError(
            f"{path}: expected a release, an extracted bundle or an extracted checkpoint "
            f"({names}), got a directory that fits none or several",
            hint="a directory called as the checkpoint's archive or top directory is compared "
            "with that checkpoint",
        )
    check_extracted_checkpoint(path, checkpoint, findings)
    return "extracted checkpoint"


def _check_file(path: Path, manifest: Manifest, findings: Findings) -> str:
    if path.name not in manifest.archives:
        raise ContentError(
            f"{path}: expected an archive of this release "
            f"({', '.join(manifest.archives)}), got {printable(path.name)}",
            hint="archives are known by their file names; rename it back if it was renamed",
        )
    check_archive(path, manifest, findings)
    return "bundle" if path.name == manifest.bundle.archive else "checkpoint"
