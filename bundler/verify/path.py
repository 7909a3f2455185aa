"""What a path is: a release, one of its archives, or what was extracted from one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundler.archive.bundle import CONTENTS_NAME
from bundler.archive.extracted_tree import CLOSED
from bundler.errors import ContentError, MalformedError, StaleError, printable
from bundler.events import Emit, ignore
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.release import TrustedRelease, check_expiry, find_release, open_release, shown
from bundler.signing.keys import PublicKey
from bundler.sums import SUMS_NAME
from bundler.verify.archives import check_archive, check_release_directory
from bundler.verify.extracted import (
    check_extracted_bundle,
    check_extracted_checkpoint,
    find_checkpoint,
)
from bundler.verify.report import Findings, Report

RELEASE, BUNDLE, CHECKPOINT = "release", "bundle", "checkpoint"
EXTRACTED_BUNDLE, EXTRACTED_CHECKPOINT = "extracted bundle", "extracted checkpoint"


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
        MalformedError: A small file is broken; nothing says what a directory was extracted from; a
            directory is a release and holds what was extracted from one too; or the manifest
            contradicts an archive that is as it was signed.
        WorldError: Something cannot be read.
    """
    release = open_release(find_release(path, release_dir), keys)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    findings = Findings(strict=strict, require_all=require_all, emit=emit)
    kind = kind_of_path(path, release.manifest)
    _check(path, kind, release, findings)
    return Report(
        path=shown(path),
        kind=kind,
        release=release.manifest.release.directory,
        signatures=release.signatures,
        checked=tuple(findings.checked),
        absent=tuple(findings.absent),
        extra=tuple(findings.extra),
        expired=expired,
        faults=tuple(findings.faults),
    )


def judge_expiry(manifest: Manifest, now: str, *, allow_expired: bool) -> str | None:
    """Say why a release is stale, or None; raises StaleError where that is not allowed."""
    try:
        check_expiry(manifest, now=now)
    except StaleError as error:
        if not allow_expired:
            raise
        return str(error)
    return None


def kind_of_path(path: Path, manifest: Manifest) -> str:
    """Say what a path is of a release: one of the constants above.

    Raises:
        ContentError: It is a file that the release does not have.
        MalformedError: It is a release, and was extracted to as well.
    """
    if not path.is_dir():
        if path.name in manifest.archives:
            return BUNDLE if path.name == manifest.bundle.archive else CHECKPOINT
        raise ContentError(
            f"{shown(path)}: expected an archive of this release "
            f"({', '.join(manifest.archives)}), got {printable(path.name)}",
            hint="archives are known by their file names; rename it back if it was renamed",
        )
    # A release directory and an extracted bundle have one name: what lies in them tells.
    ours = [name for name in (SUMS_NAME, *manifest.archives) if os.path.lexists(path / name)]
    extracted = _extracted_names(path, manifest)
    if ours and not extracted:
        return RELEASE
    weights = {file.path for checkpoint in manifest.checkpoints for file in checkpoint.files}
    if not weights.issuperset(ours):
        # As a release directory, what was extracted here would not be read.
        raise MalformedError(
            f"{shown(path)}: expected a release, or what was extracted from one of its archives, "
            f"got both: {ours[0]} and {printable(extracted[0])}",
            hint="move one of the two to a directory of its own",
        )
    bundle = os.path.lexists(path / CONTENTS_NAME) or path.resolve().name == manifest.bundle.root
    return EXTRACTED_BUNDLE if bundle else EXTRACTED_CHECKPOINT


def _extracted_names(path: Path, manifest: Manifest) -> list[str]:
    """Name what lies here and would be in an extracted bundle or checkpoint only."""
    of_release = {SUMS_NAME, MANIFEST_NAME, *manifest.archives}
    weights = (file.path for checkpoint in manifest.checkpoints for file in checkpoint.files)
    names = dict.fromkeys((CONTENTS_NAME, *CLOSED, *weights))
    return [name for name in names if name not in of_release and os.path.lexists(path / name)]


def _check(path: Path, kind: str, release: TrustedRelease, findings: Findings) -> None:
    manifest = release.manifest
    if kind == RELEASE:
        check_release_directory(path, release, findings)
    elif kind == EXTRACTED_BUNDLE:
        check_extracted_bundle(path, manifest, findings)
    elif kind == EXTRACTED_CHECKPOINT:
        check_extracted_checkpoint(path, find_checkpoint(path, manifest.checkpoints), findings)
    else:
        check_archive(path, manifest, findings)
