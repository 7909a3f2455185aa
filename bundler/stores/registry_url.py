"""URLs of registries: who may be told who we are, and where a registry may send us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from bundler.errors import WorldError, printable

_PORTS = {"http": 80, "https": 443}
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """What a URL has before its path: who a login is for.

    Source:
        RFC 6454, section 4.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Read it off a URL.

        Raises:
            ValueError: It is none of http or https, or names a user.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"expected http(s)://HOST[:PORT]/…, got {url[:_SHOWN]!r}")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        default = self.port == _PORTS[self.scheme]
        return f"{self.scheme}://{self.host}" + ("" if default else f":{self.port}")


def resolve(base: str, location: str | None, *, place: str) -> str:
    """Give the URL that a ``Location`` means.

    Args:
        base: What was asked.
        location: The header, whole or relative.
        place: What to call in an error.

    Raises:
        WorldError: There is none, it is no URL, or it leads from TLS to a place without.
    """
    if not location:
        raise WorldError(f"{place}: the registry does not say where to go on (no Location)")
    try:
        url = urljoin(base, location)
        origin = Origin.of(url)
    except ValueError as error:
        raise WorldError(
            f"{place}: the registry sends us to {printable(location)[:_SHOWN]}, which is no URL"
        ) from error
    if origin.scheme == "http" and Origin.of(base).scheme == "https":
        raise WorldError(
            f"{place}: the registry sends us from https to {origin}",
            hint="a proxy before a registry must tell it X-Forwarded-Proto: https",
        )
    return url


def with_query(url: str, **parameters: str) -> str:
    """Add parameters to a URL that may have some; those stay as they are."""
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{added}"
