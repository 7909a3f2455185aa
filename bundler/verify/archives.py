"""Archives, and the directory that they travel in, against what was signed."""

from __future__ import annotations

import os
from pathlib import Path

from bundler.archive.bundle import open_bundle
from bundler.archive.checkpoint import check_parts, check_structure
from bundler.archive.files import read_limited
from bundler.archive.kinds import DIRECTORY, FILE, kind_of
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Emit
from bundler.faults import Fault
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Checkpoint, Manifest
from bundler.release import TrustedRelease, is_additive
from bundler.sums import SUMS_NAME
from bundler.verify.report import Checked, Findings


def check_release_directory(directory: Path, release: TrustedRelease, findings: Findings) -> None:
    """Compare every archive of a release that is here, and list what is not signed.

    The bundle must be here; an absent checkpoint archive is named, since a release may be
    delivered in pieces.
    """
    manifest = release.manifest
    _check_small_files(directory, release, findings)
    for name, (size, _) in manifest.archives.items():
        if os.path.lexists(directory / name):
            check_archive(directory / name, manifest, findings)
        else:
            findings.add_absent(name, size, fault=name == manifest.bundle.archive)
    with blaming(directory):
        kinds = {path.name: kind_of(path.lstat().st_mode) for path in directory.iterdir()}
    for name, kind in sorted(kinds.items()):
        signed = name in {*manifest.archives, SUMS_NAME, MANIFEST_NAME}
        if not signed and not is_additive(name, directory=kind == DIRECTORY):
            findings.add_extra(name, None, kind)


def check_archive(path: Path, manifest: Manifest, findings: Findings) -> None:
    """Compare one archive, whose file name the manifest has: its structure and every byte."""
    name = path.name
    size, _ = manifest.archives[name]
    with blaming(path):
        found = path.lstat()
    kind = kind_of(found.st_mode)
    if kind != FILE:
        findings.faults.append(Fault(archive=name, expected=FILE, got=kind))
        return
    whole = found.st_size == size  # asked once: whoever opens it now holds it to the signed size
    if not whole:
        expected, got = f"{size} bytes", f"{found.st_size} bytes"
        findings.faults.append(Fault(archive=name, expected=expected, got=got))
    if name != manifest.bundle.archive:
        by_archive = {checkpoint.archive: checkpoint for checkpoint in manifest.checkpoints}
        findings.faults += _check_checkpoint(path, by_archive[name], findings.emit, whole=whole)
    elif whole:  # else where anything lies in it cannot be said
        findings.faults += _check_bundle(path, manifest, findings.emit)
    findings.checked.append(Checked(name, found.st_size))


def _check_small_files(directory: Path, release: TrustedRelease, findings: Findings) -> None:
    """Where the trusted small files came from elsewhere, compare those that lie here too."""
    signed = {SUMS_NAME: release.sums_bytes, MANIFEST_NAME: release.manifest_bytes}
    for name, content in signed.items():
        if directory == release.directory or not os.path.lexists(directory / name):
            continue
        got = Digest.of(read_limited(directory / name, limit=MAX_MANIFEST_BYTES))
        if got != Digest.of(content):
            expected = str(Digest.of(content))
            findings.faults.append(Fault(archive=name, expected=expected, got=str(got)))


def _check_bundle(path: Path, manifest: Manifest, emit: Emit) -> list[Fault]:
    try:
        with open_bundle(path, manifest.bundle) as reader:
            faults = reader.check_slices(emit)
            if not faults:
                reader.check_structure()
                reader.check_images(manifest.images)
            return faults
    except ContentError as error:
        return [_structure_fault(manifest.bundle.archive, error)]


def _check_checkpoint(
    path: Path, checkpoint: Checkpoint, emit: Emit, *, whole: bool
) -> list[Fault]:
    faults = []
    if whole:
        try:
            check_structure(path, checkpoint)
        except ContentError as error:
            faults.append(_structure_fault(checkpoint.archive, error))
    return faults + check_parts(path, checkpoint, emit=emit)


def _structure_fault(archive: str, error: ContentError) -> Fault:
    told = str(error).removeprefix(archive).removeprefix(":").strip()
    return Fault(archive=archive, expected="the structure that was signed", got=f"another: {told}")
