"""Brings a checkpoint from S3 to a local directory: what the pod's init container runs.

With a manifest each part is verified while it is written; a file takes its name only when all of
its parts are right. Without one it is a plain copy that fails rather than bring the wrong thing.
What lies at the destination, or in a cache, is never believed: it is hashed again.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, printable
from bundler.events import Emit, ignore
from bundler.fetch.download import threads
from bundler.fetch.filling import Fetched, Filling
from bundler.fetch.wanted import File
from bundler.manifest import MAX_MANIFEST_BYTES, Checkpoint, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.parts import part_size, spans
from bundler.reference import S3Prefix, relative_path
from bundler.stores.base import ObjectStore, StoredObject

__all__ = ["Fetched", "fetch_checkpoint", "fetch_manifest", "fetch_plain"]

_FIND_HINT = "models.KEY.model in the values must be the very prefix that was uploaded to"
_DIGEST_HINT = (
    "check --manifest-sha256: the values file names it as release.manifestSha256, and so does "
    "`bundle plan --json`; if it is that one, somebody replaced the object: publish the release "
    "again once it is deleted"
)
_EXTRACT_HINT = "extract it (tar --strip-components=1) and upload the files that are in it"


def fetch_manifest(store: ObjectStore, uri: S3Prefix, digest: Digest) -> Manifest:
    """Read a release's manifest, and take it only if it is the one that publish meant.

    Args:
        store: The bucket that ``uri`` names.
        uri: The address of the object.
        digest: What its bytes must hash to.

    Raises:
        NotFoundError: There is no such object.
        ContentError: It is another manifest.
        MalformedError: It is too long, or of a format that we do not read.
    """
    content = store.get(uri.prefix, limit=MAX_MANIFEST_BYTES)
    got = Digest.of(content)
    if got != digest:
        raise ContentError(
            f"{uri}: expected {digest}, got {got}",
            hint=_DIGEST_HINT,
        )
    return decode_manifest(content, name=str(uri))


def fetch_checkpoint(
    store: ObjectStore,
    source: S3Prefix,
    destination: Path,
    *,
    checkpoint: Checkpoint,
    cache: Path | None = None,
    emit: Emit = ignore,
) -> Fetched:
    """Bring every file of a checkpoint, each part verified; go on where an earlier run ended.

    Files of the destination that are right are kept; others of the same name are replaced; files
    that the checkpoint does not have are left alone and named.

    Args:
        store: The bucket that ``source`` names.
        source: The prefix that holds the checkpoint's files.
        destination: Directory for them; made if need be.
        checkpoint: What must be there, from a manifest that is trusted.
        cache: Directory that several runs share: what one of them brought the others take from
            there, verified again. Made if need be.
        emit: Told of progress, from several threads.

    Raises:
        ContentError: Parts differ from what was signed; their files are removed, all others are
            there, or in the cache.
        MalformedError: A name is taken by a link or directory, or cache and destination lie in
            each other.
        NotFoundError: An object is missing.
        WorldError: S3 or the disk failed, somebody else is at work there, or the disk is too
            small: nothing was fetched then. What was fetched stays for the next run.
    """
    files = [
        File(file.path, source.key(file.path), file.size, file.parts) for file in checkpoint.files
    ]
    filling = Filling(_Uploaded(store), files, destination, emit)
    if cache is None:
        return filling.directly()
    return filling.through(cache, checkpoint.identity)


class _Uploaded:
    """What was uploaded, as a source: where an object is missing, the values may name another."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Stream a range; raises as ``ObjectStore.read`` does."""
        try:
            yield from self._store.read(key, offset, length)
        except NotFoundError as error:
            raise NotFoundError(str(error), hint=error.hint or _FIND_HINT) from error


def fetch_plain(
    store: ObjectStore, source: S3Prefix, destination: Path, *, emit: Emit = ignore
) -> Fetched:
    """Bring every object below a prefix, with no more to verify it by than what S3 says of it.

    A file that is there already is kept if it has the SHA-256 that S3 keeps for the object, and
    brought again where S3 keeps none.

    Args:
        store: The bucket that ``source`` names.
        source: The prefix; what merely begins with the same letters is not below it.
        destination: Directory for the files; made if need be.
        emit: Told of progress, from several threads.

    Raises:
        ContentError: Bytes are not of the SHA-256 that S3 keeps; their files are removed.
        NotFoundError: There is nothing below the prefix.
        MalformedError: An object is a tar archive, or its key cannot be a path below a directory.
        WorldError: S3 or the disk failed, or the disk is too small: nothing was fetched then.
    """
    start = source.key("") + "/" if source.prefix else ""
    found = [item for item in store.list(start) if not _is_directory(item, start)]
    if not found:
        raise _nothing_there(store, source)
    paths = [_path_of(item, start, source) for item in found]
    with ThreadPoolExecutor(threads()) as pool:
        heads = list(pool.map(lambda item: store.head(item.key), found))
    files = [
        _plain_file(path, head or item)
        for path, item, head in zip(paths, found, heads, strict=True)
    ]
    return Filling(store, files, destination, emit).directly()


def _is_directory(item: StoredObject, start: str) -> bool:
    """Recognize what consoles make as a directory: an empty object whose key ends with a slash."""
    return item.size == 0 and (item.key == start or item.key.endswith("/"))


def _nothing_there(store: ObjectStore, source: S3Prefix) -> NotFoundError:
    if source.prefix and store.head(source.prefix) is not None:
        return NotFoundError(
            f"{source}: is one object; expected a prefix with a checkpoint's files below it",
            hint=_EXTRACT_HINT if source.prefix.endswith(".tar") else _FIND_HINT,
        )
    return NotFoundError(
        f"bucket {source.bucket}: there is no object below {source.prefix or '(its root)'}/",
        hint=_FIND_HINT,
    )


def _path_of(item: StoredObject, start: str, source: S3Prefix) -> str:
    path = item.key.removeprefix(start)
    if path.endswith(".tar"):
        raise MalformedError(
            f"{source}: holds the archive {printable(path)}, which a model server cannot load",
            hint=_EXTRACT_HINT,
        )
    try:
        relative_path(path)
    except ValueError as error:
        raise MalformedError(f"{source}: object {printable(item.key)!r}: {error}") from error
    return path


def _plain_file(path: str, item: StoredObject) -> File:
    count = sum(1 for _ in spans(item.size, part_size(item.size)))
    known = _digest_of(item.checksum) if count == 1 else None
    return File(path, item.key, item.size, (known,) * count, item.checksum)


def _digest_of(checksum: str | None) -> Digest | None:
    """Read the SHA-256 of a whole object; None where the store said none, or that of parts."""
    try:
        return None if checksum is None else Digest(b64decode(checksum, validate=True).hex())
    except ValueError:
        return None
