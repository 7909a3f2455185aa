"""How objects of Kubernetes refer to images, and what each reference means in a registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from bundler.digest import Digest
from bundler.reference import without_login
from bundler.source import RegistrySource

# Source: github.com/distribution/reference, "regexp.go" and "normalize.go".
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_SEGMENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9]*):([A-Za-z0-9_-]+(?:(?:\[\*?\])?\.[A-Za-z0-9_-]+)*)")
_DEFAULT_HOST, _DEFAULT_FOLDER, _DEFAULT_TAG = "docker.io", "library", "latest"
_MAX_REFERENCE = 512
# What no registry is called without a port: an IP address, a version, a date.
_NUMBER_LAST = re.compile(r"(?:.*\.)?[0-9]+")
# A service inside of a cluster, and what is asked of it at a port.
_CLUSTER_HOST, _PORT = (".local", ".svc"), re.compile(r"[0-9]{1,5}")
_HOST_AND_PORT = re.compile(r"(?:[^/]*\.[^/]*|localhost):[0-9]{1,5}|[^/]*:[0-9]{4,5}")


@dataclass(frozen=True, slots=True, order=True)
class NamedImage:
    """One place where an object names an image.

    Attributes:
        object: Kind and name, such as ``Deployment/inference-point``.
        container: The container's name, ``volume NAME`` for a volume made from an image, or the
            path of a field.
        image: The reference as written; empty where a container has none.
        how: What makes it an image: ``container``, ``volume``, or the kind of setting that it is.
    """

    object: str
    container: str
    image: str
    how: str = "container"

    @property
    def in_pod(self) -> bool:
        """Whether a pod runs it, so that it can be nothing but an image."""
        return self.how in {"container", "volume"}

    def __str__(self) -> str:
        return f"{self.object}, {self.container}: {self.image or '(no image)'}"


@dataclass(frozen=True, slots=True, order=True)
class ImageField:
    """A field that holds an image: the kind of its object, and the keys that lead there."""

    kind: str
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``Kind:path.to.field``; lists on the way are gone through.

        Raises:
            ValueError: It is written in another way.
        """
        found = _FIELD.fullmatch(text)
        if found is None:
            raise ValueError(f"not a field: {text[:200]!r}; expected Kind:path.to.field")
        return cls(found[1], tuple(re.sub(r"\[\*?\]", "", found[2]).split(".")))

    def __str__(self) -> str:
        return f"{self.kind}:{'.'.join(self.path)}"


def parse_reference(text: str) -> RegistrySource:
    """Read a reference as a container runtime reads it.

    ``busybox`` becomes ``docker.io/library/busybox:latest``; what stands before the first slash is
    a host where it has a dot or a port, or is ``localhost``.

    Raises:
        ValueError: It is no reference to an image.
    """
    if len(text) > _MAX_REFERENCE:
        raise ValueError(f"not a reference to an image: {without_login(text)[:200]!r}...")
    name, at, digest = text.partition("@")
    host, path = _split_host(name)
    path, colon, tag = path.partition(":")
    if host is None or host == f"index.{_DEFAULT_HOST}":
        host = _DEFAULT_HOST
    if host == _DEFAULT_HOST and "/" not in path:
        path = f"{_DEFAULT_FOLDER}/{path}"
    fits = _HOST.fullmatch(host) and _PATH.fullmatch(path) and (not colon or _TAG.fullmatch(tag))
    if not fits:
        raise ValueError(f"not a reference to an image: {without_login(text)!r}")
    return RegistrySource(
        repository=f"{host}/{path}",
        tag=tag or (None if at else _DEFAULT_TAG),
        digest=Digest.parse(digest) if at else None,
    )


def is_reference(text: str) -> bool:
    """Tell whether a text can be read as a reference, with whatever it leaves out filled in."""
    try:
        parse_reference(text)
    except ValueError:
        return False
    return True


def is_tagged(text: str) -> bool:
    """Tell whether a text is a reference with a tag or a digest, and not ``HOST:PORT``.

    What a setting must be that is called an image. A lone word may be anything.
    """
    path = _split_host(text)[1]
    if ":" not in path or path.startswith("sha256:") or _HOST_AND_PORT.fullmatch(text):
        return False
    return is_reference(text)


def is_complete(text: str) -> bool:
    """Tell whether a text is a reference that can hardly be anything else.

    It has a host, and a tag or a digest: what any other setting must be to be taken for an image.
    A host whose last label is a number counts with a port only; so does one inside of a cluster,
    where the tag could be a port.
    """
    host, path = _split_host(text)
    if host is None or ":" not in path:
        return False
    tag = path.rpartition(":")[2]
    if _NUMBER_LAST.fullmatch(host) or (host.endswith(_CLUSTER_HOST) and _PORT.fullmatch(tag)):
        return False
    return is_reference(text)


def covers(source: RegistrySource, other: RegistrySource) -> bool:
    """Tell whether having ``source`` is having ``other`` too.

    The same repository, and ``other`` says the same tag and digest, or leaves one of them out.
    """
    return (
        source.repository == other.repository
        and other.tag in {None, source.tag}
        and other.digest in {None, source.digest}
    )


def _split_host(name: str) -> tuple[str | None, str]:
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return head, rest
    return None, name
