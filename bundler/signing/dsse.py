"""DSSE: what a signature of an in-toto statement is over."""

from __future__ import annotations

IN_TOTO_PAYLOAD = "application/vnd.in-toto+json"


def pre_authentication_encoding(payload: bytes, payload_type: str = IN_TOTO_PAYLOAD) -> bytes:
    """Give the bytes that are signed in the place of ``payload``: its type and lengths before it.

    Source:
        DSSE v1.0.2, protocol.md, "Signature Definition": ``DSSEv1``, length and text of the type,
        length and bytes of the payload, one space between each; lengths in decimal.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
