"""Releases that a trusted key signed although something in them is hostile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.archive.stored_gzip import StoredGzipWriter
from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.release import signature_name
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.sums import SUMS_NAME
from tests.hostile.limited import Place
from tests.small_release import (
    RELEASE,
    make_checkpoint,
    make_release,
    replace_checkpoint,
    sign_anything,
    sign_manifest_bytes,
    write_small_files,
)

PRIVATE_PEM, PUBLIC_PEM = new_key_pair(None)
KEY: PrivateKey = read_private_key(PRIVATE_PEM, None, name="test key")
OUR_SIGNATURE = signature_name(KEY.public.key8)
BUNDLE = f"{RELEASE.directory}.tar.gz"
CHECKPOINT = "tiny_2026.10"
ARCHIVE = f"{CHECKPOINT}.tar"
END = bytes(1024)


def good_release(directory: Path) -> Path:
    """Write the small release and sign it with the key of these tests."""
    make_release(directory)
    sign_anything(directory, KEY)
    return directory


@dataclass(frozen=True)
class Signed:
    """A signed release in a place, which a case may change and sign again."""

    directory: Path
    key_file: Path

    @property
    def manifest(self) -> Manifest:
        """What it says that it holds."""
        return decode_manifest((self.directory / MANIFEST_NAME).read_bytes())

    @property
    def archive(self) -> bytes:
        """The bytes of the checkpoint's archive."""
        return (self.directory / ARCHIVE).read_bytes()

    def arguments(self, command: str, *more: str | Path) -> list[str]:
        """Give the arguments of a command that trusts the key."""
        paths = [str(item) for item in (self.directory, *more)]
        return [command, *paths, "--key", str(self.key_file)]

    def sign_archive(self, content: bytes) -> None:
        """Put other bytes in the place of the checkpoint's archive, and sign what they are.

        The files that the manifest names keep their places; all between them is other frame.
        """
        manifest = self.manifest
        checkpoint = manifest.checkpoint(CHECKPOINT)
        frame, end = b"", 0
        for file in checkpoint.files:
            frame, end = frame + content[end : file.offset], file.offset + file.size
        changed = replace(
            checkpoint,
            size=len(content),
            digest=Digest.of(content),
            frame_digest=Digest.of(frame + content[end:]),
        )
        (self.directory / ARCHIVE).write_bytes(content)
        self._sign(replace_checkpoint(manifest, changed))

    def sign_bundle(self, archive: bytes) -> None:
        """Put other bytes in the place of the bundle, and sign what they are."""
        manifest = self.manifest
        digest = Digest.of(archive)
        bundle = replace(manifest.bundle, size=len(archive), digest=digest, slices=(digest,))
        (self.directory / BUNDLE).write_bytes(archive)
        self._sign(replace(manifest, bundle=bundle))

    def sign_manifest(self, content: bytes) -> None:
        """Put other bytes in the place of MANIFEST.json, and sign a SHA256SUMS that names them."""
        sign_manifest_bytes(self.directory, content, KEY)

    def sign_sums(self, change: Callable[[str], str | bytes]) -> None:
        """Change SHA256SUMS and sign it as it is."""
        path = self.directory / SUMS_NAME
        changed = change(path.read_text())
        path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        sign_anything(self.directory, KEY)

    def _sign(self, manifest: Manifest) -> None:
        write_small_files(self.directory, manifest)
        sign_anything(self.directory, KEY)


def signed(place: Place, good: Path) -> Signed:
    """Copy a good release into a place, with its key beside it."""
    directory = place.input / RELEASE.directory
    shutil.copytree(good, directory)
    key_file = place.input / "release.pub"
    key_file.write_bytes(PUBLIC_PEM)
    return Signed(directory, key_file)


def stored(plain: bytes) -> bytes:
    """Wrap a tar as a bundle does."""
    out = bytearray()
    writer = StoredGzipWriter(out.extend)
    writer.write(plain)
    writer.close()
    return bytes(out)


def release_of(place: Place, files: dict[str, bytes]) -> Signed:
    """Write a signed release whose checkpoint has these files."""
    directory = place.input / RELEASE.directory
    manifest = make_release(directory)
    with TemporaryDirectory() as scratch:
        checkpoint = make_checkpoint(directory, Path(scratch), CHECKPOINT, "tiny", files)
    write_small_files(directory, replace_checkpoint(manifest, checkpoint))
    sign_anything(directory, KEY)
    key_file = place.input / "release.pub"
    key_file.write_bytes(PUBLIC_PEM)
    return Signed(directory, key_file)
