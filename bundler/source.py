"""Where an image comes from, before it is in a release, and for which platform it is taken."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from bundler.digest import Digest
from bundler.document import Table
from bundler.reference import image_tag, relative_path, without_login

# A host is told from a path as registry clients tell it: by a dot, a port, or the name localhost.
# Without a host they would silently go to a public registry, so one is demanded.
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::[0-9]{1,5})?"
_REPOSITORY = r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
# A docker-archive names images as docker does: with no host where it is Docker's own.
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_REPOSITORY}:([^:@/]+)")
_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9]+)(?:/([a-z0-9.]+))?")
# Source: Go's names of systems and machines; what others call them, for the hint.
_OTHER_NAMES = {"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
# Source: containerd, platforms/database.go: what a machine without a variant is.
_DEFAULT_VARIANTS = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
# Where the login of a registry that images come from is looked for, for hints.
LOGIN_HINT = (
    "log in with `skopeo login` or `docker login`, or name a file of logins in REGISTRY_AUTH_FILE; "
    "credential helpers of ~/.docker/config.json are asked too"
)
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


ArchiveForm = Literal["oci-archive", "docker-archive"]


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An image in a tar on this machine: ``oci-archive:PATH[:TAG]``, or as docker saves one.

    Attributes:
        form: What kind of tar.
        path: Where it lies.
        name: Which image in it: a tag, or for a docker-archive a whole reference with its tag;
            None where it holds one image.
    """

    form: ArchiveForm
    path: str
    name: str | None = None

    @property
    def tag(self) -> str | None:
        """The tag of the image in it, if that is said."""
        return self.name and self.name.rpartition(":")[2]

    def below(self, directory: Path) -> ArchiveSource:
        """Give the same image with its path resolved against a directory."""
        return replace(self, path=str((directory / self.path).resolve()))

    def __str__(self) -> str:
        return f"{self.form}:{self.path}" + (f":{self.name}" if self.name else "")


LocalSource = LayoutSource | ArchiveSource
Source = RegistrySource | LocalSource


def parse_source(text: str) -> Source:
    """Read where an image comes from.

    Raises:
        ValueError: It is none of the forms that there are.
    """
    form, colon, rest = text.partition(":")
    path, _, name = rest.partition(":")
    if colon and form == "oci":
        return LayoutSource(local_path(path), _tag_in(text, name) if name else None)
    if colon and form == "oci-archive":
        return ArchiveSource("oci-archive", local_path(path), _tag_in(text, name) if name else None)
    if colon and form == "docker-archive":
        return ArchiveSource("docker-archive", local_path(path), _reference(name) if name else None)
    found = _IMAGE.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        raise ValueError(
            f"not an image source: {without_login(text)[:200]!r}; expected "
            "docker://HOST[:PORT]/REPOSITORY:TAG[@sha256:...], oci:PATH[:TAG], "
            "oci-archive:PATH[:TAG] or docker-archive:PATH[:NAME:TAG]"
        )
    return RegistrySource(
        repository=found[1],
        tag=image_tag(found[2]) if found[2] else None,
        digest=Digest.parse(found[3]) if found[3] else None,
    )


def _tag_in(text: str, name: str) -> str:
    """Check which image of a layout is meant; skopeo would take its whole name."""
    tag = image_tag(name.rpartition(":")[2])
    if tag == name:
        return tag
    short = f"{text.removesuffix(name)}{tag}"
    raise ValueError(
        f"not a tag: {name[:200]!r}; write {short[:200]!r}, and the image's name into `name:`"
    )


def _reference(text: str) -> str:
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"not a name of an image in a docker-archive: {text[:200]!r}; write NAME:TAG as "
            "docker saved it, or no more than the path where there is one image"
        )
    image_tag(found[1])
    return text


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


def platform_text(text: str) -> str:
    """Check the form of a platform, ``os/arch`` or ``os/arch/variant``.

    Raises:
        ValueError: It is written in another way.
    """
    if _PLATFORM.fullmatch(text) is None:
        raise ValueError(f"not a platform: {text[:80]!r}; expected OS/ARCH[/VARIANT]")
    return text


@dataclass(frozen=True, slots=True)
class Platform:
    """For which machines an image is: ``os/arch`` or ``os/arch/variant``."""

    system: str
    machine: str
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a platform in Go's names.

        Raises:
            ValueError: It is written in another way.
        """
        found = _PLATFORM.fullmatch(text)
        if found is None:
            raise ValueError(f"not a platform: {text[:80]!r}; expected OS/ARCH[/VARIANT] or all")
        if found[2] in _OTHER_NAMES:
            other = f"{found[1]}/{_OTHER_NAMES[found[2]]}"
            raise ValueError(f"not a platform: {text[:80]!r}; did you mean {other!r}?")
        return cls(found[1], found[2], found[3])

    def takes(self, other: Platform) -> bool:
        """Tell whether an image for ``other`` is what was asked for.

        Without a variant any is; a machine's usual variant is the same as none.
        """
        same = (self.system, self.machine) == (other.system, other.machine)
        return same and (self.variant is None or self._usual() == other._usual())

    def _usual(self) -> str | None:
        return self.variant or _DEFAULT_VARIANTS.get(self.machine)

    def __str__(self) -> str:
        return "/".join(part for part in (self.system, self.machine, self.variant) if part)


ALL_PLATFORMS = "all"
LINUX_AMD64 = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How an image is taken from where it is.

    Attributes:
        platform: The one that is taken of it; None for all.
        attached: Carry the signatures, attestations and the like that its registry has of it.
        plain_http: Its registry may be spoken to without verified TLS.
    """

    platform: Platform | None = LINUX_AMD64
    attached: bool = True
    plain_http: bool = False

    @property
    def platform_text(self) -> str:
        """What is taken of it, as a spec writes it."""
        return ALL_PLATFORMS if self.platform is None else str(self.platform)


def read_fetch_options(table: Table) -> FetchOptions:
    """Read those fields of an entry of a release spec that say how images are taken.

    Raises:
        MalformedError: One of them breaks a rule.
    """
    return FetchOptions(
        platform=table.parse("platform", _platform, str(LINUX_AMD64)),
        attached=table.flag("attached", True),
        plain_http=table.flag("plainHttp", False),
    )


def _platform(text: str) -> Platform | None:
    return None if text == ALL_PLATFORMS else Platform.parse(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a source names now, and what of it is taken.

    Attributes:
        digest: Of the manifest or index that the source names.
        taken: Of what is taken: the same, or the one manifest in the index for one platform.
        manifests: Digests of what is taken and, of an index, of all manifests below it.
        size: Bytes of all blobs that are taken.
        docker_typed: Their media types are Docker's, so that a copy in OCI form has another digest.
    """

    digest: Digest
    taken: Digest
    manifests: tuple[Digest, ...]
    size: int
    docker_typed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was copied to a layout: its digest at the source, and its digest there."""

    source_digest: Digest
    digest: Digest
