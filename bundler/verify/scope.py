"""How much of a release a run of verify compares."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.errors import MalformedError, printable
from bundler.manifest import Bundle, Checkpoint, Manifest


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared; all of it, where nothing is said.

    Attributes:
        quick: Names, sizes and structure only; the content of files is not read.
        archive: The one archive; None for all.
        path: The one file in it; None for all.
    """

    quick: bool = False
    archive: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.archive, self.path) if part is not None)


EVERYTHING = Scope()


def archive_of(manifest: Manifest, name: str) -> Checkpoint | Bundle:
    """Find an archive by its file name; KeyError where there is none."""
    if name == manifest.bundle.archive:
        return manifest.bundle
    return {checkpoint.archive: checkpoint for checkpoint in manifest.checkpoints}[name]


def read_scope(only: str | None, manifest: Manifest, *, quick: bool = False) -> Scope:
    """Read ``NAME`` or ``NAME/PATH``: an archive by its file name, or without its suffix; a file.

    Raises:
        MalformedError: The release has no such archive, or no such file in it.
    """
    if only is None:
        return Scope(quick)
    name, slash, path = only.partition("/")
    names = {file_name: file_name for file_name in manifest.archives}
    names |= {checkpoint.name: checkpoint.archive for checkpoint in manifest.checkpoints}
    names |= {manifest.bundle.root: manifest.bundle.archive}
    if name not in names:
        raise MalformedError(
            f"{printable(only)}: expected one of {', '.join(manifest.archives)}, got another name"
        )
    archive = names[name]
    if slash and path not in {file.path for file in archive_of(manifest, archive).files}:
        raise MalformedError(
            f"{archive}: expected a file of it, got {printable(path)}",
            hint="`bundle inspect` with the archive's name lists them",
        )
    return Scope(quick, archive, path if slash else None)
