"""Archives, and the directory that they travel in, against what was signed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bundler.archive.bundle import open_bundle
from bundler.archive.bundle_reader import bad_slices
from bundler.archive.checkpoint import check_parts, check_structure
from bundler.archive.checkpoint_frame import frame_faults
from bundler.archive.files import read_limited
from bundler.archive.kinds import DIRECTORY, FILE, kind_of
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import archive_name
from bundler.archive.volumes import Place, VolumeSet, find_volumes, open_place
from bundler.digest import Digest
from bundler.errors import ContentError, MediumError
from bundler.events import Planned
from bundler.faults import Fault
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Bundle, Checkpoint, Manifest
from bundler.release import TrustedRelease, is_additive
from bundler.release_files import ReleaseDirectory, ReleaseFiles
from bundler.remote_object import RemoteObject
from bundler.sums import SUMS_NAME
from bundler.trust import TRUST_FOLDER, is_trust_path
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
    _check_small_files(directory, release, findings)
    check_archives(directory, release.manifest, findings, elsewhere)


def check_archives(
    directory: Path, manifest: Manifest, findings: Findings, elsewhere: Sequence[Path] = ()
) -> None:
    """Do what ``check_release_directory`` does, for whom the small files need no comparing."""
    asked = _asked(manifest, findings)
    places = {name: _places(name, manifest, directory, elsewhere) for name in asked}
    _tell_ahead([name for name, found in places.items() for _ in found], manifest, findings)
    for name, found in places.items():
        for place in found:
            if isinstance(place, VolumeSet):
                check_volumes(place, manifest, findings)
            else:
                check_archive(place, manifest, findings)
        if not found:
            _add_absent(name, manifest, findings)
    _list_foreign(directory, manifest, findings)


def check_release_in_bucket(release: TrustedRelease, findings: Findings) -> None:
    """Compare every archive of a release that lies in a bucket, where it lies.

    Raises:
        MalformedError: An archive is there in volumes.
    """
    manifest = release.manifest
    places = {name: release.place(name) for name in _asked(manifest, findings)}
    _tell_ahead([name for name, found in places.items() if found], manifest, findings)
    for name, found in places.items():
        if isinstance(found, RemoteObject):
            _check_whole(found, found.size, manifest, findings)
        else:
            _add_absent(name, manifest, findings)
    kinds = {
        name: "an object" if release.files.has(name) else DIRECTORY
        for name in release.files.names()
    }
    _name_foreign(kinds, manifest, findings)
    _name_foreign_trust(release.files, kinds, findings)


def _asked(manifest: Manifest, findings: Findings) -> list[str]:
    """Name the archives that the scope has."""
    return [name for name in manifest.archives if findings.scope.archive in {None, name}]


def _places(
    name: str, manifest: Manifest, directory: Path, elsewhere: Sequence[Path]
) -> list[Path | VolumeSet]:
    """Find an archive, whole and in volumes."""
    size, digest = manifest.archives[name]
    wholes = (path / name for path in (directory, *elsewhere))
    whole = next((path for path in wholes if os.path.lexists(path)), None)
    volumes = find_volumes(name, size, digest, [directory, *elsewhere])
    return [place for place in (whole, volumes) if place is not None]


def _tell_ahead(names: Sequence[str], manifest: Manifest, findings: Findings) -> None:
    """Tell how much is to be read of some archives."""
    scope, total = findings.scope, 0
    for archive in (archive_of(manifest, name) for name in names):
        if isinstance(archive, Checkpoint):
            sizes = {file.path: file.size for file in archive.files}
            total += sum(sizes.values()) if scope.path is None else sizes[scope.path]
        elif scope.path is None:
            total += archive.size
    if not scope.quick:
        findings.emit(Planned(total))


def _add_absent(name: str, manifest: Manifest, findings: Findings) -> None:
    must = name in {manifest.bundle.archive, findings.scope.archive}
    findings.add_absent(name, manifest.archives[name][0], fault=must)


def check_archive(path: Path, manifest: Manifest, findings: Findings) -> None:
    """Compare one archive, whose file name the manifest has: its structure and every byte."""
    with blaming(path):
        found = path.lstat()
    kind = kind_of(found.st_mode)
    if kind != FILE:
        findings.faults.append(Fault(archive=path.name, expected=FILE, got=kind))
        return
    # Asked for once: whoever opens it now holds it to the signed size.
    _check_whole(path, found.st_size, manifest, findings)


def _check_whole(place: Path | RemoteObject, found: int, manifest: Manifest, to: Findings) -> None:
    """Compare an archive that is one file or object of ``found`` bytes."""
    size, _ = manifest.archives[place.name]
    archive = archive_of(manifest, place.name)
    whole = found == size
    if not whole:
        expected, got = f"{size} bytes", f"{found} bytes"
        to.faults.append(Fault(archive=place.name, expected=expected, got=got))
    if isinstance(archive, Checkpoint) or whole:  # else where anything lies in it cannot be said
        to.faults += _check_content(place, archive, to, whole=whole)
    _add_checked(archive, found, to)


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
    _name_foreign(kinds, manifest, findings)
    _name_foreign_trust(ReleaseDirectory(directory), kinds, findings)


def _name_foreign(kinds: Mapping[str, str], manifest: Manifest, findings: Findings) -> None:
    for name, kind in sorted(kinds.items()):
        signed = name in {SUMS_NAME, MANIFEST_NAME} or archive_name(name) in manifest.archives
        if not signed and not is_additive(name, directory=kind == DIRECTORY):
            findings.add_extra(name, None, kind)


def _name_foreign_trust(files: ReleaseFiles, kinds: Mapping[str, str], findings: Findings) -> None:
    """Name what lies among the trust files and is called otherwise."""
    folder = files.inside(TRUST_FOLDER) if kinds.get(TRUST_FOLDER) == DIRECTORY else None
    paths = (f"{TRUST_FOLDER}/{name}" for name in (folder.names() if folder else ()))
    for path in paths:
        if not is_trust_path(path):
            findings.add_extra(path, None, "no trust file")


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
        return _bad_slices(place, archive, findings)
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
    except (ContentError, MediumError) as error:
        # What it cannot be opened by is damaged; elsewhere more may be.
        bad = [] if scope.quick else _bad_slices(place, bundle, findings)
        return bad or [_structure_fault(bundle.archive, error)]


def _bad_slices(place: Place, bundle: Bundle, findings: Findings) -> list[Fault]:
    with open_place(place, partly=True) as reader:
        return [fault for _, fault in bad_slices(reader, bundle, findings.emit)]


def _check_checkpoint(
    place: Place, checkpoint: Checkpoint, findings: Findings, *, whole: bool
) -> list[Fault]:
    faults, scope = _check_frame(place, checkpoint, whole=whole), findings.scope
    if scope.quick:
        return faults
    files = None if scope.path is None else {scope.path}
    return faults + check_parts(place, checkpoint, emit=findings.emit, files=files)


def _check_frame(place: Place, checkpoint: Checkpoint, *, whole: bool) -> list[Fault]:
    problem = None
    try:
        if whole:
            check_structure(place, checkpoint)
            return []
    except (ContentError, MediumError) as error:
        problem = error
    with open_place(place, partly=True) as reader:
        faults = frame_faults(reader, checkpoint)
    if problem is None:
        return faults
    if not faults:
        return [_structure_fault(checkpoint.archive, problem)]
    first, *others = faults
    why = f"{first.got} ({_told(checkpoint.archive, problem)})"
    return [replace(first, got=why), *others]


def _structure_fault(archive: str, error: ContentError | MediumError) -> Fault:
    got = f"another: {_told(archive, error)}"
    return Fault(archive=archive, expected="the structure that was signed", got=got)


def _told(archive: str, error: ContentError | MediumError) -> str:
    return str(error).removeprefix(archive).removeprefix(":").strip()
