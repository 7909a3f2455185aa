"""What a forward proxy says that does not let us through, and what helps. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

# As http.client says what a proxy answered to CONNECT.
_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})( [A-Za-z ]{1,60})?")
_LOGIN = 407
PROXY_HINT = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
PROXY_LOGIN_HINT = (
    "the proxy wants a login, or another one: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, and so "
    "HTTP_PROXY"
)
_RULES_HINT = (
    "have the operator of the proxy in HTTPS_PROXY allow the host and its port, or name the host "
    "in NO_PROXY if it can be reached without a proxy"
)
_RULES = frozenset({403, 405})


@dataclass(frozen=True, slots=True)
class NoTunnel:
    """The answer of a proxy that makes no tunnel: its status, and that with its words."""

    status: int
    answer: str

    @property
    def hint(self) -> str:
        """What helps."""
        if self.status == _LOGIN:
            return PROXY_LOGIN_HINT
        return _RULES_HINT if self.status in _RULES else PROXY_HINT


def no_tunnel(text: str) -> NoTunnel | None:
    """Find in the text of an exception what a proxy answered; None where it is about no proxy."""
    found = _REFUSED.search(text)
    return NoTunnel(int(found[1]), f"{found[1]}{found[2] or ''}".strip()) if found else None


def without_login(url: str) -> str:
    """Give the address of a proxy, without the login that its URL may have."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
