"""What the client libraries say of certificates."""

from __future__ import annotations

import re

# Source: OpenSSL, X509_verify_cert_error_string; urllib3 and ssl compare names themselves at times.
_ANOTHER_HOST = re.compile(r"(?:hostname|ip address) mismatch|doesn't match", re.IGNORECASE)
OTHER_HOST_HINT = "use the name that the certificate has, or have one made for this name"


def is_of_another_host(reason: str) -> bool:
    """Tell whether TLS failed because the certificate is of another host than was asked for."""
    return _ANOTHER_HOST.search(reason) is not None
