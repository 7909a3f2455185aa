"""Names that cross a border: image names and tags, model keys, host names, S3 addresses, paths."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

# Source: ECR API reference, CreateRepository, repositoryName; one path segment of it.
_IMAGE_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|-+)[a-z0-9]+)*")
# Source: OCI distribution specification v1.1, "Pulling manifests".
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ENDPOINT = re.compile(r"https?://[^/\s?#@]+/?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGISTRY = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[a-z0-9][a-z0-9._/-]*)?"
)
# Source: Amazon ECR user guide, "Making requests to Amazon ECR registries", and the DNS suffixes of
# AWS' partitions (botocore, partitions.json). Only these hosts are given a login of ECR unasked.
_ECR_HOST = re.compile(
    r"([0-9]{12})\.dkr([.-])ecr(-fips)?\.([a-z0-9-]{1,40})\."
    r"(amazonaws\.(?:com|com\.cn|eu)|on\.aws|on\.amazonwebservices\.(?:com\.cn|eu)"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
    r"(?::443)?(?:/.*)?"
)
# Whatever stands before a host; a digest stands behind an @ too.
_LOGIN = re.compile(r".*@(?!sha256:)", re.DOTALL)
_MAX_KEY, _MAX_LABEL, _MAX_HOST, _MAX_NAME, _MAX_PATH_BYTES = 50, 63, 253, 128, 512
_SEPARATOR = "__"


def endpoint(text: str) -> str:
    """Check the URL of a server, and give it without a slash behind it.

    Raises:
        ValueError: It is none; one with a login in it is not repeated.
    """
    if "@" in text:
        raise ValueError("an endpoint with a login in it; expected https://HOST[:PORT]")
    if _ENDPOINT.fullmatch(text) is None:
        raise ValueError(f"not an endpoint: {text[:200]!r}; expected https://HOST[:PORT]")
    return text.rstrip("/")


def without_login(text: str) -> str:
    """Give a text for an error without the ``user:password@`` that may stand in it."""
    return _LOGIN.sub("...@", text)


def image_name(text: str) -> str:
    """Check the name of an image: one repository segment that the by-hand script can split off.

    Raises:
        ValueError: It has a ``/`` or ``__``, or is not a repository name.
    """
    if _SEPARATOR in text or "/" in text:
        raise ValueError(
            f"image name {text!r} has '/' or '__', which <image>__<tag>.tar cannot carry"
        )
    if len(text) < 2 or len(text) > _MAX_NAME or _IMAGE_NAME.fullmatch(text) is None:
        raise ValueError(
            f"not an image name: {text[:80]!r}; expected lowercase letters, digits, single . _ -"
        )
    return text


def image_tag(text: str) -> str:
    """Check an image's tag.

    Raises:
        ValueError: It is not an OCI tag, or has ``__``.
    """
    if _TAG.fullmatch(text) is None or _SEPARATOR in text:
        raise ValueError(f"not an image tag: {text[:140]!r}; expected [A-Za-z0-9_.-], no '__'")
    return text


def model_key(text: str) -> str:
    """Check the key of a model: a DNS label of at most 50 characters.

    Raises:
        ValueError: It is not one.
    """
    if len(text) > _MAX_KEY or _LABEL.fullmatch(text) is None:
        raise ValueError(
            f"not a model key: {text[:80]!r}; expected at most {_MAX_KEY} of a-z 0-9 -"
        )
    return text


def namespace(text: str) -> str:
    """Check the name of a Kubernetes namespace, or another name that is one DNS label.

    Raises:
        ValueError: It is not one.
    """
    if len(text) > _MAX_LABEL or _LABEL.fullmatch(text) is None:
        raise ValueError(f"not a DNS label: {text[:80]!r}; expected at most 63 of a-z 0-9 -")
    return text


def hostname(text: str) -> str:
    """Check a DNS host name in lowercase.

    Raises:
        ValueError: It is not one.
    """
    labels = text.split(".")
    if len(text) > _MAX_HOST or not all(
        len(label) <= _MAX_LABEL and _LABEL.fullmatch(label) for label in labels
    ):
        raise ValueError(f"not a host name: {text[:260]!r}; expected lowercase DNS labels")
    return text


def file_name(text: str) -> str:
    """Check a name of ours that becomes a file or a directory: no separator, no leading dot.

    Raises:
        ValueError: It has a character that some file system, shell or tool reads otherwise.
    """
    if len(text) > _MAX_NAME or _SEPARATOR in text or _FILE_NAME.fullmatch(text) is None:
        raise ValueError(
            f"not a file name of ours: {text[:140]!r}; expected at most {_MAX_NAME} of "
            "[A-Za-z0-9._+-], no '__', a letter or digit first"
        )
    return text


def registry_host(text: str) -> str:
    """Check where images go: host, port if any, path if any; no scheme, no user.

    Raises:
        ValueError: It is something else.
    """
    if _REGISTRY.fullmatch(text) is None:
        shown = without_login(text)[:200]
        raise ValueError(
            f"not a registry: {shown!r}; expected HOST[:PORT][/PATH], no scheme, no login"
        )
    return text


@dataclass(frozen=True, slots=True)
class EcrHost:
    """What the name of a registry of Amazon ECR says.

    Attributes:
        account: Its twelve digits.
        region: Such as ``us-gov-west-1``.
        suffix: Of the DNS name, by which partitions differ.
        fips: The name is that of a server validated for FIPS 140.
        dual_stack: The name is that of a server that also speaks IPv6.
    """

    account: str
    region: str
    suffix: str
    fips: bool = False
    dual_stack: bool = False


def ecr_host(text: str) -> EcrHost | None:
    """Read ``HOST[:PORT][/PATH]`` as a registry of Amazon ECR; None where it is another one."""
    found = _ECR_HOST.fullmatch(text.lower())
    if found is None:
        return None
    account, separator, fips, region, suffix = found.groups()
    dual_stack = suffix.startswith("on.")
    if dual_stack != (separator == "-"):
        return None
    return EcrHost(account, region, suffix, fips=fips is not None, dual_stack=dual_stack)


def is_shown(char: str) -> bool:
    """Say whether a character is shown as itself: it breaks no line, hides and reorders nothing."""
    return char == " " or unicodedata.category(char)[0] not in "CZ"


def relative_path(text: str) -> str:
    """Check a path below a root: POSIX, NFC, no ``.`` or ``..``, all of it ``is_shown``.

    Raises:
        ValueError: It could leave the root, or be read as another path somewhere.
    """
    if not text or len(text.encode(errors="surrogatepass")) > _MAX_PATH_BYTES:
        raise ValueError(f"path is empty or over {_MAX_PATH_BYTES} bytes: {text[:80]!r}")
    if any(part in {"", ".", ".."} for part in text.split("/")):
        raise ValueError(f"path is absolute, climbs or is not normal: {text[:200]!r}")
    if "\\" in text or not all(map(is_shown, text)):
        raise ValueError(
            f"path has a backslash, a control character or an unusual space: {text[:200]!r}"
        )
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError(f"path is not in Unicode normal form C: {text[:200]!r}")
    return text


def plain_text(text: str) -> str:
    """Check a text that people read: not empty, no control character.

    Raises:
        ValueError: It is empty, or could move a cursor, hide or reorder what is shown.
    """
    if not text or any(unicodedata.category(char)[0] == "C" for char in text):
        raise ValueError(f"text is empty or has a control character: {text[:80]!r}")
    return text


def folded(path: str) -> str:
    """Give what two paths must not share, so that no file system takes them for one."""
    return unicodedata.normalize("NFC", path.casefold())


@dataclass(frozen=True, slots=True, order=True)
class ImageTag:
    """What an image is called in a registry, below the host: ``name:tag``."""

    name: str
    tag: str

    def __post_init__(self) -> None:
        image_name(self.name)
        image_tag(self.tag)

    @property
    def archive_path(self) -> str:
        """Where its OCI archive lies in the bundle."""
        return f"containers/{self.name}{_SEPARATOR}{self.tag}.tar"

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class S3Prefix:
    """A place in a bucket: ``s3://bucket/prefix``, with no slash at its end."""

    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        if _BUCKET.fullmatch(self.bucket) is None:
            raise ValueError(f"not a bucket name: {self.bucket[:80]!r}")
        if self.prefix:
            relative_path(self.prefix)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ``s3://`` URL.

        Raises:
            ValueError: It is not one.
        """
        if not text.startswith("s3://"):
            raise ValueError(f"not an S3 address: {text[:200]!r}; expected s3://BUCKET/PREFIX")
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return cls(bucket, prefix.rstrip("/"))

    def key(self, *parts: str) -> str:
        """Give the object key of something below this prefix."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def __truediv__(self, part: str) -> S3Prefix:
        return S3Prefix(self.bucket, self.key(part))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"
