"""Who we are to a registry: credentials, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bundler.errors import printable

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password. The password stays out of ``repr`` and so out of logs."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """An OAuth 2 refresh token that a token server gave for a password, in place of one."""

    token: str = field(repr=False)


Credential = Login | IdentityToken


def source_text(credential: Credential | None, where: str) -> str:
    """Say whose a credential is and where it came from; of its secret, nothing."""
    if credential is None:
        return f"none was found {where}"
    if isinstance(credential, IdentityToken):
        return f"an identity token {where}"
    return f"user {printable(credential.user)[:_SHOWN]!r} {where}"


class Logins(Protocol):
    """Where the credential for one registry comes from. Any thread may ask at any time."""

    @property
    def source(self) -> str:
        """Say whose the current credential is and where it came from, or where none was found."""

    def current(self) -> Credential | None:
        """Give what to log in with now; None for nobody in particular."""

    def renew(self) -> Credential | None:
        """Look for another one, since the registry refused the current one.

        Returns:
            The current one again where there is no other.
        """


@dataclass(frozen=True, slots=True)
class GivenLogin:
    """One credential that somebody gave us for this run."""

    credential: Credential | None = None

    @property
    def source(self) -> str:
        """Say that it is the one of ``--registry-user``."""
        return source_text(self.credential, "of --registry-user")

    def current(self) -> Credential | None:
        """Give it."""
        return self.credential

    def renew(self) -> Credential | None:
        """Give the same: there is no other."""
        return self.credential
