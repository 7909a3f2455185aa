"""What a release or one of its archives holds, as its manifest says, for people and machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundler.archive.volumes import VolumeSet
from bundler.errors import printable
from bundler.jsontext import read_json
from bundler.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Bundle,
    Chart,
    Checkpoint,
    Manifest,
    Model,
)
from bundler.manifest_codec import encode_manifest
from bundler.release import find_release, open_release, read_agreed, read_sums_file
from bundler.release_files import ReleaseFiles, files_at, require_archive, shown
from bundler.sizes import size_text
from bundler.trust import NOBODY, Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table for people; no cell can move a cursor or hide another."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a manifest says; no archive was read.

    Attributes:
        manifest: What is described.
        archive: The one archive that was asked for; None for the whole release.
        signatures: The ``key8`` of each key that vouches for it; empty where no key was given,
            and then anybody may have written it.
        present: Which archives are here, by file name.
        volumes: Those of them that lie in volumes.
    """

    manifest: Manifest
    archive: str | None
    signatures: tuple[str, ...]
    present: frozenset[str]
    volumes: Mapping[str, VolumeSet] = field(default_factory=dict)

    def sections(self) -> tuple[Section, ...]:
        """Give it as tables for people, in the order to show them."""
        manifest = self.manifest
        if self.archive == manifest.bundle.archive:
            return (_images(manifest), _charts(manifest.charts), _bundle_files(manifest.bundle))
        if self.archive is not None:
            checkpoint = _checkpoint_of(manifest, self.archive)
            models = tuple(m for m in manifest.models if m.checkpoint == checkpoint.name)
            return (_checkpoints([checkpoint]), _models(models), _checkpoint_files(checkpoint))
        return (
            self._release(),
            self._archives(),
            _images(manifest),
            _charts(manifest.charts),
            _checkpoints(manifest.checkpoints),
            _models(manifest.models),
        )

    def to_dict(self) -> dict[str, object]:
        """Give the same for machines: the whole manifest, and how far to trust it."""
        content = encode_manifest(self.manifest)
        manifest = read_json(content, name=MANIFEST_NAME, limit=len(content)).value
        return {
            "archive": self.archive,
            "signatures": list(self.signatures),
            "present": sorted(self.present),
            "volumes": {
                name: _volumes_to_dict(found) for name, found in sorted(self.volumes.items())
            },
            "manifest": manifest,
        }

    def _release(self) -> Section:
        release = self.manifest.release
        signed = ", ".join(self.signatures) or "not verified: no key was given"
        return _section(
            "Release",
            ("field", "value"),
            [
                ("name", release.name),
                ("version", release.version),
                ("sequence", str(release.sequence)),
                ("created", release.created),
                ("expires", release.expires or "never"),
                ("SBOMs", _sboms(self.manifest.bundle)),
                ("signed by", signed),
            ],
        )

    def _archives(self) -> Section:
        rows = [
            (name, size_text(size), digest.id16, self._here(name))
            for name, (size, digest) in self.manifest.archives.items()
        ]
        return _section("Archives", ("file", "size", "sha256", "here"), rows)

    def _here(self, archive: str) -> str:
        if archive in self.volumes:
            found = self.volumes[archive]
            wrong = {fault.volume for fault in found.faults}
            bad = f", {len(wrong)} missing or wrong" if wrong else ""
            count = len(found.volumes)
            return f"{count} volume{'s' if count != 1 else ''}{bad}"
        return "yes" if archive in self.present else "no"


def describe_path(
    path: Path | ReleaseFiles,
    trust: Trust = NOBODY,
    *,
    release_dir: Path | None = None,
    elsewhere: Sequence[Path] = (),
) -> Description:
    """Describe a release directory, or one archive by the manifest beside it.

    Args:
        path: A release directory or an archive, or a release's files wherever they lie.
        trust: Whom to trust; where it is nobody, the manifest is shown as it is, and said to be
            unverified.
        release_dir: Where SHA256SUMS and MANIFEST.json lie, where not in or beside ``path``.
        elsewhere: Where else archives, or volumes of them, may lie.

    Raises:
        UntrustedError: Keys were given, and none of them signed it.
        ContentError: SHA256SUMS and MANIFEST.json disagree, or do not name this archive.
        MalformedError, NotFoundError: The small files are broken or missing.
    """
    where = path if isinstance(path, ReleaseFiles) else find_release(path, release_dir)
    manifest, signatures = _read(files_at(where), trust)
    archive = None
    if isinstance(path, Path) and not path.is_dir():
        archive = require_archive(path, manifest)
        path = path.parent
    archives = files_at(path, elsewhere)
    found = {name: archives.place(name, *signed) for name, signed in manifest.archives.items()}
    return Description(
        manifest=manifest,
        archive=archive,
        signatures=signatures,
        present=frozenset(name for name, item in found.items() if item is not None),
        volumes={name: item for name, item in found.items() if isinstance(item, VolumeSet)},
    )


def _volumes_to_dict(found: VolumeSet) -> dict[str, object]:
    return {
        "compressed": found.compressed,
        "files": [
            {"path": shown(item.path), "offset": item.offset, "size": item.length}
            for item in found.volumes
        ],
        "faults": [printable(str(fault)) for fault in found.faults],
    }


def _read(files: ReleaseFiles, trust: Trust) -> tuple[Manifest, tuple[str, ...]]:
    if trust:
        release = open_release(files, trust)
        return release.manifest, release.signatures
    content = files.read(MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    return read_agreed(files, read_sums_file(files), content)[1], ()


def _checkpoint_of(manifest: Manifest, archive: str) -> Checkpoint:
    return {checkpoint.archive: checkpoint for checkpoint in manifest.checkpoints}[archive]


def _section(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Section:
    shown = tuple(tuple(printable(cell) for cell in row) for row in rows)
    return Section(title=title, columns=columns, rows=shown)


def _images(manifest: Manifest) -> Section:
    rows = [
        (
            str(image.tag),
            str(image.digest),
            f"{image.kind} of {image.subject}" if image.subject else ", ".join(image.platforms),
            size_text(manifest.bundle.file(image.tag.archive_path).size),
            image.source,
        )
        for image in manifest.images
    ]
    return _section("Images", ("image", "digest", "platform or kind", "size", "source"), rows)


def _charts(charts: Sequence[Chart]) -> Section:
    rows = [(chart.name, chart.version, chart.path, chart.digest.id16) for chart in charts]
    return _section("Charts", ("chart", "version", "path", "sha256"), rows)


def _checkpoints(checkpoints: Sequence[Checkpoint]) -> Section:
    rows = [
        (
            item.name,
            item.root,
            str(len(item.files)),
            size_text(item.content_bytes),
            item.identity.hex,
        )
        for item in checkpoints
    ]
    return _section("Checkpoints", ("checkpoint", "root", "files", "size", "identity"), rows)


def _models(models: Sequence[Model]) -> Section:
    rows = [(m.key, m.model_name, m.model_type, str(m.gpus), m.checkpoint) for m in models]
    return _section("Models", ("model", "served as", "type", "GPUs", "checkpoint"), rows)


def _sboms(bundle: Bundle) -> str:
    count = sum(file.path.startswith("sbom/") for file in bundle.files)
    return f"{count} in sbom/ of the bundle" if count else "none"


def _bundle_files(bundle: Bundle) -> Section:
    rows = [(file.path, size_text(file.size), file.digest.hex) for file in bundle.files]
    return _section("Files", ("path", "size", "sha256"), rows)


def _checkpoint_files(checkpoint: Checkpoint) -> Section:
    rows = [
        (file.path, size_text(file.size), str(len(file.parts)), file.digest.hex)
        for file in checkpoint.files
    ]
    return _section("Files", ("path", "size", "parts", "sha256"), rows)
