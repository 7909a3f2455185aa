"""The JSON schemas of the OCI image specification, as its own Go module carries them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests import go_modules

_MODULE = "github.com/opencontainers/image-spec@v1.1.1"
_SUM = "h1:y0fUlFfIZhPF1W537XOLg0/fcx6zcHCJwooC2xJA040="
_SCHEMAS = {
    OCI_INDEX: "image-index-schema.json",
    OCI_MANIFEST: "image-manifest-schema.json",
    OCI_CONFIG: "config-schema.json",
    "layout": "image-layout-schema.json",
    "descriptor": "content-descriptor.json",
}


@dataclass(frozen=True, slots=True)
class Schemas:
    """The directory of the schemas."""

    directory: Path

    def complaints(self, kind: str, document: object) -> list[str]:
        """Hold a document to a schema.

        Args:
            kind: Its media type, ``layout`` or ``descriptor``.
            document: What the JSON says.

        Returns:
            What is wrong, and where; nothing if nothing is.
        """
        registry: Registry[Any] = Registry(retrieve=self._named)  # type: ignore[call-arg]
        schema = self._read(_SCHEMAS[kind])
        checker = Draft4Validator(
            schema, registry=registry, format_checker=Draft4Validator.FORMAT_CHECKER
        )
        return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]

    def of_layout(self, layout: Path) -> Iterator[tuple[str, list[str]]]:
        """Hold every document of an image layout to its schema: each name, and what is wrong.

        Everything that index.json leads to is read, but for the subjects of what is attached, which
        may lie in another layout. Each descriptor on the way is held to its schema.
        """
        yield "oci-layout", self.complaints("layout", _load(layout / "oci-layout"))
        index = _load(layout / "index.json")
        yield "index.json", self.complaints(OCI_INDEX, index)
        left = [(OCI_INDEX, index)]
        while left:
            kind, document = left.pop()
            for descriptor in _descriptors(kind, document):
                digest, media_type = descriptor["digest"], descriptor["mediaType"]
                yield f"descriptor of {digest}", self.complaints("descriptor", descriptor)
                if media_type in _SCHEMAS and descriptor is not document.get("subject"):
                    below = _load(layout / "blobs" / digest.replace(":", "/"))
                    yield f"{media_type} {digest}", self.complaints(media_type, below)
                    left.append((media_type, below))

    def _named(self, address: str) -> Resource[Any]:
        return DRAFT4.create_resource(self._read(Path(urlsplit(address).path).name))

    def _read(self, name: str) -> Any:
        return _load(self.directory / name)


def fetch() -> Schemas:
    """Give the schemas; fetch their module the first time.

    Raises:
        RehearsalError: There is no Go here, or the module is not to be had.
    """
    final = go_modules.cache() / f"{_MODULE.rpartition('/')[2]}-schema"
    if not final.is_dir():
        scratch = final.with_name(f".{final.name}.{os.getpid()}")
        scratch.mkdir(parents=True)
        try:
            shutil.copytree(go_modules.fetch(_MODULE, _SUM, scratch) / "schema", scratch / "kept")
            (scratch / "kept").rename(final)
        except OSError:  # another process was quicker
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Schemas(final)


def _descriptors(kind: str, document: Any) -> list[dict[str, Any]]:
    if kind not in (OCI_INDEX, OCI_MANIFEST):
        return []
    single = [document[key] for key in ("config", "subject") if key in document]
    return [*single, *document.get("manifests", []), *document.get("layers", [])]


def _load(path: Path) -> Any:
    return json.loads(path.read_bytes())
