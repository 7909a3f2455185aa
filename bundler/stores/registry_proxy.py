"""Which proxy leads to a server: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as Go's programs read them.

docker, skopeo, helm and kubectl are such programs: what reaches a registry for them reaches it for
us, and addresses in NO_PROXY may be networks such as ``10.0.0.0/8``.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit

from bundler.errors import MalformedError

_SCHEMES = ("http", "https")


def proxy_for(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> str | None:
    """Give the URL of the proxy through which a server is spoken to.

    Args:
        scheme: ``http`` or ``https``: how the server is spoken to.
        host: Its name or address, in lowercase.
        port: Its TCP port.
        environment: Which variables are set; those in capitals come first.

    Returns:
        None to go there directly; always for loopback.

    Raises:
        MalformedError: The variable holds no URL of a proxy that we can speak to.

    Source:
        Go, golang.org/x/net/http/httpproxy, documentation of Config.
    """
    name = f"{scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name)
    if not proxy or _is_loopback(host):
        return None
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if any(_names(entry.strip().lower(), host, port) for entry in exceptions.split(",")):
        return None
    return _checked(proxy if "://" in proxy else f"http://{proxy}", name.upper())


def address_and_login(proxy: str) -> tuple[str, dict[str, str]]:
    """Split the URL of a proxy in its address, and the header that logs in to it, if any."""
    parts = urlsplit(proxy)
    login, _, address = parts.netloc.rpartition("@")
    plain = unquote_to_bytes(os.fsencode(login))  # whatever bytes the variable has
    header = {"Proxy-Authorization": f"Basic {base64.b64encode(plain).decode()}"} if login else {}
    return f"{parts.scheme}://{address}", header


def _checked(proxy: str, variable: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(proxy)
        if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
            return proxy
    # Its text may hold a password.
    raise MalformedError(f"{variable}: expected http://HOST:PORT or https://HOST:PORT")


def _names(entry: str, host: str, port: int) -> bool:
    """Tell whether one entry of NO_PROXY is about a server."""
    if not entry or entry == "*":
        return entry == "*"
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    if not entry.endswith("]"):
        entry, colon, number = entry.rpartition(":") if _has_port(entry) else (entry, "", "")
        if colon and number != str(port):
            return False
    entry = entry.strip("[]").removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith(f".{entry}")


def _has_port(entry: str) -> bool:
    return entry.count(":") == 1 or "]:" in entry


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
