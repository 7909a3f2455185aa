"""Who may be told the login of a registry that we read, and what is said where it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.errors import DeniedError, printable
from bundler.source import LOGIN_HINT
from bundler.stores.registry_url import Origin

LEAVE_OUT = "or write `attached: false`, to leave out what is attached to the image"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class LoginOrigins:
    """A registry and its token server.

    Attributes:
        host: ``HOST[:PORT]`` of the registry.
        token_host: Another host that may be given the login, for a token; None for no other.
    """

    host: str
    token_host: str | None

    def is_own(self, url: str) -> bool:
        """Tell whether a URL is of the registry itself."""
        found = origin(url)
        own = (origin(f"{scheme}://{self.host}") for scheme in ("https", "http"))
        return found is not None and found in own

    def may_have_login(self, url: str) -> bool:
        """Tell whether a URL is of the registry, or of a token server that is known to be its."""
        if self.is_own(url):
            return True
        scheme, _, host = str(origin(url)).partition("://")
        # As registry.gitlab.com sends everybody to gitlab.com.
        above = "." in host and self.host.endswith(f".{host}")
        return scheme == "https" and (host == self.token_host or above)

    def withheld(self, place: str, realm: str) -> DeniedError:
        """Say that a token server is not given the login."""
        return DeniedError(
            f"{place}: the registry sends us for a token to {printable(realm)[:_SHOWN]}, which is "
            f"not given the login of {self.host}",
            hint=LEAVE_OUT.removeprefix("or "),
        )

    def denied(self, place: str, url: str, status: int, *, known: bool) -> DeniedError:
        """Say that we are refused.

        Args:
            place: What we asked for.
            url: Who refused us: the registry, or where it sent us.
            status: What was answered.
            known: Whether we have a login.
        """
        if not self.may_have_login(url):
            return DeniedError(
                f"{place}: the registry sends us on to {origin(url)}, which refuses us ({status}); "
                "no login of ours goes there",
                hint=f"ask the operator of the registry, {LEAVE_OUT}",
            )
        whom = "the login that we have" if known else "anybody without a login"
        return DeniedError(
            f"{place}: the registry refused {whom} ({status})", hint=f"{LOGIN_HINT}; {LEAVE_OUT}"
        )


def origin(url: str) -> Origin | None:
    """Give the origin of a URL; None where it is none that we speak to."""
    try:
        return Origin.of(url)
    except ValueError:
        return None
