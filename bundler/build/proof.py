"""The last step of a build: the release is read as its receivers will read it."""

from __future__ import annotations

from pathlib import Path

from bundler.archive.bundle import open_bundle
from bundler.archive.checkpoint import check_structure
from bundler.archive.files import read_limited
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from bundler.manifest_codec import decode_manifest
from bundler.sums import MAX_SUMS_BYTES, SUMS_NAME, read_release_sums


def prove_release(directory: Path) -> None:
    """Hold the two ways of judging a release, sums and manifest, to each other and to its archives.

    Reads the small files and the frames of the archives; the content was hashed as it was written.

    Raises:
        ContentError: They do not agree, or a file is missing or extra.
    """
    content = read_limited(directory / MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    sums = read_release_sums(read_limited(directory / SUMS_NAME, limit=MAX_SUMS_BYTES))
    manifest = decode_manifest(content)
    expected = {name: digest for name, (_, digest) in manifest.archives.items()}
    shown = printable(str(directory))
    if sums != expected | {MANIFEST_NAME: Digest.of(content)}:
        raise ContentError(f"{shown}: {SUMS_NAME} and {MANIFEST_NAME} do not agree")
    found = {path.name for path in directory.iterdir()}
    for name in sorted(found ^ {*sums, SUMS_NAME}):
        raise ContentError(
            f"{shown}: {printable(name)} is {'extra' if name in found else 'absent'}"
        )
    for checkpoint in manifest.checkpoints:
        check_structure(directory / checkpoint.archive, checkpoint)
    with open_bundle(directory / manifest.bundle.archive, manifest.bundle) as bundle:
        bundle.check_structure()
