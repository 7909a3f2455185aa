"""What a file in a layer says: packages, the system they are for, or nothing that we can read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Source: CycloneDX 1.6, bom-1.6.schema.json, component, version: at most 1024 characters.
_MAX_CHARS = 1024
# Of an image, over all its platforms. The largest have some thousands.
MAX_PACKAGES, MAX_TEXT = 20_000, 4_000_000


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Package:
    """One installed package.

    Attributes:
        kind: Whose it is, as package URLs call it: ``deb``, ``apk``, ``rpm``, ``pypi``.
        name: Of the package.
        version: As its package manager writes it; of an rpm without the epoch.
        architecture: Empty where it has none.
        epoch: Of an rpm; empty where it has none.
        source: What it was built from, where that is called otherwise: name, or ``name@version``.
        licence: What its database declares, on one line; empty where it declares nothing.
    """

    kind: str
    name: str
    version: str
    architecture: str = ""
    epoch: str = ""
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for text in (self.name, self.version):
            if not text:
                raise ValueError(f"a package without name or version: {self.name[:80]!r}")
            # A package URL drops these; of a name that is nothing else there can be none.
            if text != text.strip(" /"):
                raise ValueError(f"no name or version of a package: {text[:80]!r}")
        for text in (self.name, self.version, self.architecture, self.source, self.licence):
            if len(text) > _MAX_CHARS or not text.isprintable():
                raise ValueError(f"not a text of a package: {text[:80]!r}")

    def text_size(self) -> int:
        """Count the characters of all that is said of it."""
        texts = (self.name, self.version, self.architecture, self.source, self.licence)
        return sum(map(len, texts))


@dataclass(frozen=True, slots=True, order=True)
class System:
    """Which distribution the packages are for, as os-release says; either may be empty."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that may name packages and was not read, and why."""

    reason: str


Content = tuple[Package, ...] | System | Unread


def few_enough(packages: Iterable[Package]) -> tuple[Package, ...]:
    """Give packages in order; they are counted as they come.

    Raises:
        ValueError: There are more of them than anybody installs.
    """
    found, text = [], 0
    for package in packages:
        found.append(package)
        text += package.text_size()
        require_few(len(found), text)
    return tuple(sorted(set(found)))


def require_few(packages: int, text: int) -> None:
    """Hold packages, and the characters of all that is said of them, to what anybody installs.

    Raises:
        ValueError: There are more.
    """
    if packages > MAX_PACKAGES:
        raise ValueError(f"more than {MAX_PACKAGES} packages")
    if text > MAX_TEXT:
        raise ValueError(f"packages with more than {MAX_TEXT} characters")
