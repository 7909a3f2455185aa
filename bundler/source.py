"""Where an image comes from, before it is in a release: a registry, or a layout on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bundler.digest import Digest
from bundler.reference import image_tag, relative_path

# A host is told from a path as registry clients tell it: by a dot, a port, or the name localhost.
# Without a host they would silently go to a public registry, so one is demanded.
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::[0-9]{1,5})?"
_REPOSITORY = r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
_IMAGE = re.compile(rf"docker://({_HOST}/{_REPOSITORY})(?::([^:@/]+))?(?:@(.+))?")


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """An image in a registry: ``docker://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]``.

    Attributes:
        repository: Host, port if any, and path.
        tag, digest: At least one of them is there. With both, the digest is what is fetched.
    """

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def at(self, digest: Digest) -> RegistrySource:
        """Give the same image by its digest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"docker://{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class LayoutSource:
    """An image in an OCI layout, a directory of this machine: ``oci:PATH[:TAG]``."""

    path: str
    tag: str | None = None

    def below(self, directory: Path) -> LayoutSource:
        """Give the same image with its path resolved against a directory."""
        return replace(self, path=str((directory / self.path).resolve()))

    def __str__(self) -> str:
        return f"oci:{self.path}" + (f":{self.tag}" if self.tag else "")


Source = RegistrySource | LayoutSource


def parse_source(text: str) -> Source:
    """Read where an image comes from.

    Raises:
        ValueError: It is neither ``docker://HOST/REPOSITORY:TAG`` nor ``oci:PATH``.
    """
    if text.startswith("oci:"):
        path, _, tag = text.removeprefix("oci:").partition(":")
        return LayoutSource(local_path(path), image_tag(tag) if tag else None)
    found = _IMAGE.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        raise ValueError(
            f"not an image source: {text[:200]!r}; expected "
            "docker://HOST[:PORT]/REPOSITORY:TAG[@sha256:...] or oci:PATH[:TAG]"
        )
    return RegistrySource(
        repository=found[1],
        tag=image_tag(found[2]) if found[2] else None,
        digest=Digest.parse(found[3]) if found[3] else None,
    )


def local_path(text: str) -> str:
    """Check a path that is relative to the file that names it; it may begin with ``..``.

    Raises:
        ValueError: It is absolute, or not written plainly.
    """
    if not text or text != text.strip() or text.startswith("/"):
        raise ValueError(f"not a path relative to this file: {text[:200]!r}")
    parts = list(PurePosixPath(text).parts)
    while parts and parts[0] == "..":
        del parts[0]
    if parts:
        relative_path("/".join(parts))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a source names now.

    Attributes:
        digest: Of the manifest or index there.
        size: Bytes of all its blobs; never less than what a copy takes.
        docker_typed: Its media types are Docker's, so that a copy in OCI form has another digest.
    """

    digest: Digest
    size: int
    docker_typed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An image that was copied to a layout: its digest at the source, and its digest there."""

    source_digest: Digest
    digest: Digest
