"""What Python's installers write down about a package: METADATA, PKG-INFO."""

from __future__ import annotations

from bundler.inventory.fields import Fields, paragraphs
from bundler.inventory.package import Package

_WANTED = frozenset({b"name", b"version", b"license-expression", b"license", b"classifier"})
_MAX_LICENCE_CHARS = 120
_NOTHING_SAID = frozenset({"", "unknown", "none"})
_CLASSIFIER = "License :: "


def read_python(content: bytes) -> tuple[Package, ...]:
    """Give the one package that metadata is about.

    Source:
        Core metadata specifications (packaging.python.org); PEP 639 for ``License-Expression``.

    Args:
        content: The file, or its beginning: what is behind the first empty line is a description.

    Raises:
        ValueError: It is no such metadata.
    """
    fields = next(paragraphs(content, _WANTED), [])
    known = dict(reversed(fields))
    return (
        Package(
            kind="pypi",
            name=known.get("name", ""),
            version=known.get("version", ""),
            licence=_licence(fields),
        ),
    )


def _licence(fields: Fields) -> str:
    """Take the expression, or a short name, or what classifiers say; never a licence's text."""
    known = dict(fields)
    for key in ("license-expression", "license"):
        text = known.get(key, "")
        short = text.isprintable() and len(text) <= _MAX_LICENCE_CHARS
        if short and text.lower() not in _NOTHING_SAID:
            return text
    named = [
        value.rpartition(" :: ")[2]
        for key, value in fields
        if key == "classifier" and value.startswith(_CLASSIFIER) and value.isprintable()
    ]
    text = ", ".join(sorted(set(named)))
    return text if len(text) <= _MAX_LICENCE_CHARS else ""
