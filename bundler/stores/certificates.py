"""Where registry clients keep the authorities and client certificates of single registries."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from bundler.errors import MalformedError, NotFoundError

_SYSTEM = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def registry_context(host: str, *, environment: Mapping[str, str]) -> ssl.SSLContext:
    """Give what to trust, and to show, when we speak TLS with a registry.

    The system's authorities are trusted, and those in the first directory that there is for it.

    Args:
        host: ``HOST[:PORT]``.
        environment: Where ``HOME`` is looked up.

    Raises:
        NotFoundError: A client certificate is there without its key.
        MalformedError: A file there is no certificate, or no key of its certificate.

    Source:
        containers-certs.d(5).
    """
    context = ssl.create_default_context()
    home = Path(environment.get("HOME") or "/")
    for place in (home / ".config/containers/certs.d", *_SYSTEM):
        if (place / host).is_dir():
            _load(context, place / host)
            break
    return context


def _load(context: ssl.SSLContext, directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, path.with_suffix(".key"))
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: expected its key beside it, found none") from error
        except (ssl.SSLError, OSError) as error:
            raise MalformedError(f"{path}: expected certificates in PEM form") from error
