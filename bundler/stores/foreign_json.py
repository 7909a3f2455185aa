"""JSON that others write and we only look into: what we do not use may be as it likes there."""

from __future__ import annotations

import json


def read_object(content: bytes) -> dict[str, object]:
    """Parse a JSON object; the caller has limited its size, and checks the fields that it uses.

    A byte order mark is taken, and of a key that stands there twice the last, as Go does.

    Raises:
        ValueError: It is no JSON, nested too deep for the parser, or no object.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None
    except ValueError as error:  # its own text could quote a secret
        place = f" (byte {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"not JSON{place}") from None
    if not isinstance(value, dict):
        raise ValueError("expected an object in JSON")
    return value


def text_of(value: object) -> str:
    """Give a text that can be sent.

    Raises:
        ValueError: It is none, or no Unicode.
    """
    if not isinstance(value, str):
        raise ValueError("expected a text")
    value.encode()
    return value
