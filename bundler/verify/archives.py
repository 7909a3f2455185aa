"""Archives, and the directory that they travel in, against what was signed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundler.archive.bundle import open_bundle
from bundler.archive.bundle_reader import bad_slices
from bundler.archive.checkpoint import check_parts, check_structure
from bundler.archive.files import read_limited
from bundler.archive.kinds import DIRECTORY, FILE, kind_of
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import parse_volume_name
from bundler.archive.volumes import Place, VolumeSet, find_volumes, open_place
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.faults import Fault
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Bundle, Checkpoint, Manifest
from bundler.release import TrustedRelease, is_additive
from bundler.sums import SUMS_NAME
from bundler.verify.report import Findings
from bundler.verify.scope import archive_of
from bundler.verify.volumes import explain


def check_release_directory(
    directory: Path, release: TrustedRelease, findings: Findings, elsewhere: Sequence[Path] = ()
) -> None:
    """Compare every archive of a release that is here, and list what is not signed.

    The bundle must be here; an absent checkpoint archive is named, since a release may be
    delivered in pieces. An archive that is here both whole and in volumes is compared twice.

    Args:
        directory: Of the release.
        release: What was signed.
        findings: Takes what is found.
        elsewhere: Where else archives and volumes may lie.
    """
    manifest = release.manifest
    _check_small_files(directory, release, findings)
    for name, (size, digest) in manifest.archives.items():
        if findings.scope.archive not in {None, name}:
            continue
        wholes = [path / name for path in (directory, *elsewhere)]
        whole = next((path for path in wholes if os.path.lexists(path)), None)
        volumes = find_volumes(name, size, digest, [directory, *elsewhere])
        if whole is not None:
            check_archive(whole, manifest, findings)
        if volumes is not None:
            check_volumes(volumes, manifest, findings)
        if whole is None and volumes is None:
            must = name in {manifest.bundle.archive, findings.scope.archive}
            findings.add_absent(name, size, fault=must)
    _list_foreign(directory, manifest, findings)


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
    if name != manifest.bundle.archive or whole:  # else where anything lies in it cannot be said
        findings.faults += _check_content(path, archive_of(manifest, name), findings, whole=whole)
    _add_checked(archive_of(manifest, name), found.st_size, findings)


def check_volumes(found: VolumeSet, manifest: Manifest, findings: Findings) -> None:
    """Compare an archive that lies in volumes, where they lie; what is wrong with them is told.

    Of a set that is not whole, everything is compared that its volumes carry entirely.
    """
    archive = archive_of(manifest, found.archive)
    findings.faults += found.faults
    faults = _check_content(found, archive, findings, whole=not found.faults)
    findings.faults += faults + explain(found, archive, faults)
    _add_checked(archive, sum(volume.length for volume in found.volumes), findings)


def _add_checked(archive: Checkpoint | Bundle, size: int, findings: Findings) -> None:
    path = findings.scope.path
    if path is None:
        findings.add_checked(archive.archive, size)
    else:
        sizes = {file.path: file.size for file in archive.files}
        findings.add_checked(str(findings.scope), sizes[path])


def _list_foreign(directory: Path, manifest: Manifest, findings: Findings) -> None:
    with blaming(directory):
        kinds = {path.name: kind_of(path.lstat().st_mode) for path in directory.iterdir()}
    for name, kind in sorted(kinds.items()):
        volume = parse_volume_name(name)
        signed = name in {*manifest.archives, SUMS_NAME, MANIFEST_NAME}
        signed = signed or (volume is not None and volume.archive in manifest.archives)
        if not signed and not is_additive(name, directory=kind == DIRECTORY):
            findings.add_extra(name, None, kind)


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


def _check_content(
    place: Place, archive: Checkpoint | Bundle, findings: Findings, *, whole: bool
) -> list[Fault]:
    """Compare structure, if the archive is ``whole``, and as much content as was asked for."""
    if isinstance(archive, Checkpoint):
        return _check_checkpoint(place, archive, findings, whole=whole)
    if not whole:
        if findings.scope.quick:
            return []
        with open_place(place, partly=True) as reader:
            return [fault for _, fault in bad_slices(reader, archive, findings.emit)]
    return _check_bundle(place, archive, findings)


def _check_bundle(place: Place, bundle: Bundle, findings: Findings) -> list[Fault]:
    scope = findings.scope
    try:
        with open_bundle(place, bundle) as reader:
            faults = []
            if not scope.quick and scope.path is None:
                faults = reader.check_slices(findings.emit)
            elif scope.path is not None and not scope.quick:
                faults = reader.check_file(bundle.file(scope.path))
            if not faults:
                reader.check_structure()
                reader.check_images(findings.images)
            return faults
    except ContentError as error:
        return [_structure_fault(bundle.archive, error)]


def _check_checkpoint(
    place: Place, checkpoint: Checkpoint, findings: Findings, *, whole: bool
) -> list[Fault]:
    faults, scope = [], findings.scope
    if whole:
        try:
            check_structure(place, checkpoint)
        except ContentError as error:
            faults.append(_structure_fault(checkpoint.archive, error))
    if scope.quick:
        return faults
    files = None if scope.path is None else {scope.path}
    return faults + check_parts(place, checkpoint, emit=findings.emit, files=files)


def _structure_fault(archive: str, error: ContentError) -> Fault:
    told = str(error).removeprefix(archive).removeprefix(":").strip()
    return Fault(archive=archive, expected="the structure that was signed", got=f"another: {told}")
