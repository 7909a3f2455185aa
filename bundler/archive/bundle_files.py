"""The bundle of a release, in its archive or in the directory that it was extracted to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.archive.bundle_base import BundleFiles as BundleFiles
from bundler.archive.bundle_reader import BundleReader
from bundler.archive.extracted_bundle import ExtractedBundle as ExtractedBundle
from bundler.archive.volumes import locate
from bundler.errors import NotFoundError, printable
from bundler.manifest import Bundle


def open_bundle_files(
    directory: Path, bundle: Bundle, elsewhere: Sequence[Path] = ()
) -> BundleFiles:
    """Open a bundle for reading: its archive, or else what was extracted beside its manifest.

    Args:
        directory: Of the release.
        bundle: What was signed.
        elsewhere: Where else its archive, or volumes of it, may lie.

    Raises:
        NotFoundError: Neither is there.
        ContentError: The archive is not what was signed; of a directory, its methods say so.
        MalformedError: The archive is what was signed, and breaks the format.
    """
    extracted = directory / bundle.root
    place = locate(bundle.archive, bundle.size, bundle.digest, [directory, *elsewhere])
    if place is not None:
        return BundleReader(place, bundle)
    if extracted.is_dir():
        return ExtractedBundle(extracted, bundle)
    raise NotFoundError(
        f"{printable(str(directory))}: expected {bundle.archive}, or {bundle.root}/ as tar "
        "extracts it, got neither",
        hint="copy the archive here",
    )
