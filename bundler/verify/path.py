"""What a path is: a release, one of its archives, or what was extracted from one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundler.added_files import added_problems
from bundler.archive.bundle_base import CONTENTS_NAME
from bundler.archive.extracted_tree import CLOSED
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import archive_name
from bundler.archive.volumes import find_volumes
from bundler.errors import MalformedError, StaleError, printable
from bundler.events import Emit, Noted, ignore
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.release import TrustedRelease, find_release, open_release
from bundler.release_files import ReleaseFiles, require_archive, shown
from bundler.staleness import check_created, check_expiry
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from bundler.verify.archives import (
    check_archive,
    check_release_directory,
    check_release_in_bucket,
    check_volumes,
)
from bundler.verify.extracted import (
    check_extracted_bundle,
    check_extracted_checkpoint,
    find_checkpoint,
)
from bundler.verify.report import Findings, Report
from bundler.verify.scope import Scope, read_scope

RELEASE, BUNDLE, CHECKPOINT = "release", "bundle", "checkpoint"
EXTRACTED_BUNDLE, EXTRACTED_CHECKPOINT = "extracted bundle", "extracted checkpoint"


def verify_path(
    path: Path | ReleaseFiles,
    trust: Trust,
    *,
    now: str,
    release_dir: Path | None = None,
    elsewhere: Sequence[Path] = (),
    quick: bool = False,
    only: str | None = None,
    strict: bool = False,
    require_all: bool = False,
    allow_expired: bool = False,
    emit: Emit = ignore,
) -> Report:
    """Compare every byte at a path with what was signed; extracts nothing.

    The signature comes first, then the manifest, then the archives, read once, on all cores. What
    differs in an archive or an extracted directory is collected; anything before it raises.

    Args:
        path: A release directory, a bundle or checkpoint archive, a volume of one, or a directory
            that one was extracted to; or a release's files wherever they lie.
        trust: Whom to trust.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``, to judge the release's expiry by.
        release_dir: Where SHA256SUMS, its signatures and MANIFEST.json lie; where not given, in
            ``path`` or beside it.
        elsewhere: Where else archives and volumes may lie.
        quick: Compare signatures, names, sizes and structure only; the report says what was not
            read.
        only: One archive, or one file of it: ``NAME`` or ``NAME/PATH``.
        strict: Make everything that is not signed a fault.
        require_all: Make an absent checkpoint archive of a release directory a fault.
        allow_expired: Go on with an expired release, and say so in the report.
        emit: Told of progress; may be called from other threads.

    Raises:
        UntrustedError: No key was given, or none of them signed this release.
        StaleError: The release is expired, or from the future.
        ContentError: MANIFEST.json differs from what was signed, or does not name this file.
        MalformedError: ``only`` names nothing of the release; a small file is broken; nothing says
            what a directory was extracted from; a directory is a release and holds what was
            extracted from one too; or the manifest contradicts an archive that is as it was signed.
        WorldError: Something cannot be read.
    """
    where = path if isinstance(path, ReleaseFiles) else find_release(path, release_dir)
    release = open_release(where, trust)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    for problem in added_problems(release):
        emit(Noted(problem))
    scope = read_scope(only, release.manifest, quick=quick)
    findings = Findings(
        strict=strict,
        require_all=require_all,
        scope=scope,
        images=release.manifest.images,
        emit=emit,
    )
    kind = RELEASE
    if isinstance(path, Path):
        kind = kind_of_path(path, release.manifest)
        _check(path, kind, release, findings, elsewhere)
    else:
        check_release_in_bucket(release, findings)
    return findings.report(
        shown(path) if isinstance(path, Path) else path.shown(),
        kind,
        release.manifest.release.directory,
        signatures=release.signatures,
        expired=expired,
        news=release.trust.news,
    )


def judge_expiry(manifest: Manifest, now: str, *, allow_expired: bool) -> str | None:
    """Say why a release is expired, or None.

    Raises:
        StaleError: It is expired and that is not allowed, or it is from the future.
    """
    check_created(manifest, now=now)
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
        archive = require_archive(path, manifest)
        return BUNDLE if archive == manifest.bundle.archive else CHECKPOINT
    # A release directory and an extracted bundle have one name: what lies in them tells.
    ours = [name for name in (SUMS_NAME, *manifest.archives) if os.path.lexists(path / name)]
    ours += _volumes_in(path, manifest)
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


def _volumes_in(directory: Path, manifest: Manifest) -> list[str]:
    with blaming(directory):
        names = [path.name for path in directory.iterdir()]
    return [name for name in names if archive_name(name) in manifest.archives.keys() - {name}]


def _check(
    path: Path, kind: str, release: TrustedRelease, findings: Findings, elsewhere: Sequence[Path]
) -> None:
    manifest = release.manifest
    if kind == RELEASE:
        check_release_directory(path, release, findings, elsewhere)
    elif kind == EXTRACTED_BUNDLE:
        _require(findings.scope, manifest.bundle.archive)
        check_extracted_bundle(path, manifest, findings)
    elif kind == EXTRACTED_CHECKPOINT:
        checkpoint = find_checkpoint(path, manifest.checkpoints)
        _require(findings.scope, checkpoint.archive)
        check_extracted_checkpoint(path, checkpoint, findings)
    else:
        _require(findings.scope, archive_name(path.name))
        _check_file(path, manifest, findings, elsewhere)


def _check_file(
    path: Path, manifest: Manifest, findings: Findings, elsewhere: Sequence[Path]
) -> None:
    name = archive_name(path.name)
    if name == path.name:
        check_archive(path, manifest, findings)
        return
    found = find_volumes(name, *manifest.archives[name], [path.parent, *elsewhere])
    if found is not None:
        check_volumes(found, manifest, findings)


def _require(scope: Scope, archive: str) -> None:
    """Refuse to check something of one archive where another is."""
    if scope.archive not in {None, archive}:
        raise MalformedError(f"--only {scope}: expected a part of {archive}, which is here")
