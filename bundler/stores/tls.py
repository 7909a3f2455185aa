"""Certificates: whose we believe, which one we show, and what the client libraries say of them."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from bundler.errors import MalformedError, NotFoundError

# Source: OpenSSL, X509_verify_cert_error_string; urllib3 and ssl compare names themselves at times.
_ANOTHER_HOST = re.compile(r"(?:hostname|ip address) mismatch|doesn't match", re.IGNORECASE)
OTHER_HOST_HINT = "use the name that the certificate has, or have one made for this name"


def is_of_another_host(reason: str) -> bool:
    """Tell whether TLS failed because the certificate is of another host than was asked for."""
    return _ANOTHER_HOST.search(reason) is not None


def client_context(
    *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Make what a client of ours needs for TLS.

    Args:
        ca: PEM file of the authorities to believe; None for the system's, or ``SSL_CERT_FILE``.
        certificate: PEM file of the certificate that we show, with its chain; None for none.
        key: PEM file of its private key, not encrypted; None where ``certificate`` has it too.

    Raises:
        NotFoundError: One of the files is not there.
        MalformedError: One of them is something else, or the key is of another certificate.
    """
    for path, what in ((ca, "CA"), (certificate, "client certificate"), (key, "client key")):
        if path is not None and not path.is_file():
            raise NotFoundError(f"{path}: no such file", hint=f"correct the path of the {what}")
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (ssl.SSLError, OSError) as error:
        raise MalformedError(f"{ca}: expected certificates in PEM form") from error
    if certificate is not None:
        _show(context, certificate, key)
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # Without a password given here, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        both = f"{certificate} and {key}" if key else f"{certificate}"
        raise MalformedError(
            f"{both}: expected a certificate and its private key in PEM form, not encrypted"
        ) from error
