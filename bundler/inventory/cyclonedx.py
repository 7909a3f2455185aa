"""The one door to CycloneDX: SBOMs of the images of a release, and of its bundle.

The same content gives the same bytes at any time: the time is the release's, and the serial number
is made of all the rest.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol, cast

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.model.tool import ToolRepository
from cyclonedx.schema.schema import SchemaVersion1Dot6
from packageurl import PackageURL

from bundler.digest import Digest
from bundler.inventory.image import ImageInventory, PlatformInventory
from bundler.inventory.listing import TOOL, Note, component_of, list_packages, notes_of
from bundler.inventory.package import Package, System
from bundler.jsontext import read_json, write_json
from bundler.manifest import Chart, Checkpoint, Image, Release
from bundler.reference import ImageTag

_FORMAT = {
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
}
BUNDLE_SBOM_PATH = "sbom/bundle.cdx.json"
_SERIAL = "serialNumber"
_SERIALS = uuid.UUID("0a2ad7b6-51a4-45ac-8a5b-cf3c66f1ac11")
# Whose packages they are where an image does not say what it was made of.
_NAMESPACES = {"deb": "debian", "apk": "alpine"}


@dataclass(frozen=True, slots=True)
class Sbom:
    """One SBOM: its bytes, and how others name it, a BOM-Link."""

    content: bytes
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleParts:
    """What a bundle holds, and what came beside it.

    Attributes:
        images: With the SBOM of each that runs.
        charts: Ours, and those of others.
        scripts: Digests by path in the bundle.
        checkpoints: Of the release.
    """

    images: Sequence[tuple[Image, Sbom | None]]
    charts: Sequence[Chart]
    scripts: Mapping[str, Digest]
    checkpoints: Sequence[Checkpoint]


def sbom_path(tag: ImageTag) -> str:
    """Say where the SBOM of an image lies in the bundle."""
    return f"sbom/{PurePosixPath(tag.archive_path).stem}.cdx.json"


def image_sbom(inventory: ImageInventory, release: Release) -> Sbom:
    """Give the SBOM of one image: what was found in it, and what was not looked at."""
    platforms, licences = inventory.platforms, _Licences()
    packages = [
        component_of(listed, licences.fields_of(listed.package.licence), several=len(platforms) > 1)
        for listed in list_packages(platforms, _url)
    ]
    return _sbom(
        _image(inventory.image, licences=licences.of(inventory.licence)),
        _systems(platforms),
        release,
        notes_of(inventory),
        packages,
    )


def bundle_sbom(parts: BundleParts, release: Release) -> Sbom:
    """Give the SBOM of a bundle: its images, charts and scripts, and the release's checkpoints."""
    root = Component(
        type=ComponentType.APPLICATION,
        name=release.name,
        version=release.version,
        bom_ref=release.directory,
    )
    components = [
        *(_image(image, sbom) for image, sbom in parts.images),
        *(_chart(chart) for chart in parts.charts),
        *(_file(path, digest, "") for path, digest in parts.scripts.items()),
        *(_checkpoint(checkpoint) for checkpoint in parts.checkpoints),
    ]
    notes = [("not-looked-at", "what charts and checkpoints are made of, and their licences")]
    return _sbom(root, components, release, notes)


class _Licences:
    """Licences by what databases call them: SPDX identifiers, expressions, or other names."""

    def __init__(self) -> None:
        self._factory = LicenseFactory()
        self._known: dict[str, License] = {}
        self._fields: dict[str, object] = {}

    def of(self, text: str) -> list[License]:
        if text and text not in self._known:
            self._known[text] = self._factory.make_from_string(
                text, license_acknowledgement=LicenseAcknowledgement.DECLARED
            )
        return [self._known[text]] if text else []

    def fields_of(self, text: str) -> list[object]:
        """Give the same as plain fields."""
        if text and text not in self._fields:
            (one,) = self.of(text)
            fields = _fields(one)
            self._fields[text] = fields if "expression" in fields else {"license": fields}
        return [self._fields[text]] if text else []


def _url(package: Package, system: System) -> str:
    """Give the package's URL; vulnerability scanners know a package by it.

    Source:
        Package URL specification, purl-types-index: deb, apk, rpm, pypi. ``upstream`` is none of
        its qualifiers; it is what scanners read where advisories name the source package.
    """
    if package.kind == "pypi":
        return PackageURL("pypi", None, package.name, package.version).to_string()
    qualifiers = {
        "arch": package.architecture,
        "epoch": package.epoch,
        "upstream": package.source,
        "distro": f"{system.name}-{system.version}" if system.version else system.name,
    }
    return PackageURL(
        package.kind,
        system.name or _NAMESPACES.get(package.kind),
        package.name,
        package.version,
        {key: value for key, value in qualifiers.items() if value},
    ).to_string()


def _systems(platforms: Sequence[PlatformInventory]) -> Iterable[Component]:
    for system in sorted({one.system for one in platforms if one.system.name}):
        yield Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=system.name,
            version=system.version or None,
            bom_ref=f"system:{system.name}@{system.version}",
        )


def _image(
    image: Image, sbom: Sbom | None = None, *, licences: Iterable[License] = ()
) -> Component:
    tag, digest = image.tag, image.digest
    url = PackageURL("oci", None, tag.name, str(digest), {"tag": tag.tag})
    notes = [("archive", tag.archive_path), ("source", image.source)]
    notes += [("platform", platform) for platform in image.platforms]
    if image.subject is not None:
        notes += [("kind", image.kind), ("subject", str(image.subject))]
    return Component(
        type=ComponentType.DATA if image.subject else ComponentType.CONTAINER,
        name=tag.name,
        version=tag.tag,
        bom_ref=str(url),
        purl=url,
        hashes=[_sha256(digest)],
        licenses=licences,
        external_references=[_reference(sbom, sbom_path(tag))] if sbom else None,
        properties=_properties(notes),
    )


def _reference(sbom: Sbom, path: str) -> ExternalReference:
    return ExternalReference(
        type=ExternalReferenceType.BOM,
        url=XsUri(sbom.link),
        comment=path,
        hashes=[_sha256(Digest.of(sbom.content))],
    )


def _chart(chart: Chart) -> Component:
    notes = [("path", chart.path)]
    if (
        not chart.is_archive
    ):  # its digest is over a list of its files, not over bytes that lie there
        notes.append(("tree-sha256", chart.digest.hex))
    return Component(
        type=ComponentType.APPLICATION,
        name=chart.name,
        version=chart.version,
        bom_ref=f"chart:{chart.path}",
        hashes=[_sha256(chart.digest)] if chart.is_archive else None,
        properties=_properties(notes),
    )


def _checkpoint(checkpoint: Checkpoint) -> Component:
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=checkpoint.name,
        bom_ref=f"checkpoint:{checkpoint.name}",
        hashes=[_sha256(checkpoint.digest)],
        properties=_properties(
            [("archive", checkpoint.archive), ("identity", str(checkpoint.identity))]
        ),
        components=[_file(file.path, file.digest, checkpoint.name) for file in checkpoint.files],
    )


def _file(path: str, digest: Digest, holder: str) -> Component:
    return Component(
        type=ComponentType.FILE,
        name=path,
        bom_ref=f"file:{holder}/{path}",
        hashes=[_sha256(digest)],
    )


def _sha256(digest: Digest) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex)


def _properties(notes: Iterable[Note]) -> list[Property]:
    return [Property(name=f"{TOOL}:{name}", value=value) for name, value in notes]


class _Serializable(Protocol):
    """What the library's decorators add to its classes, and its annotations do not say."""

    def as_json(self, *, view_: type[object]) -> str:
        """Give the fields that a version of the schema has."""


def _sbom(
    root: Component,
    components: Iterable[Component],
    release: Release,
    notes: Iterable[Note],
    packages: Iterable[dict[str, object]] = (),
) -> Sbom:
    tool = Component(type=ComponentType.APPLICATION, name=TOOL)
    bom = Bom(
        components=components,
        metadata=BomMetaData(
            timestamp=datetime.fromisoformat(release.created),
            tools=ToolRepository(components=[tool]),
            component=root,
            properties=_properties(notes),
        ),
    )
    # Not through the library's own output: it adds dependencies that nobody asked for, in a time
    # that grows with the square of the components.
    value = {**cast("dict[str, object]", _ordered(_fields(bom))), **_FORMAT}
    del value[_SERIAL]
    listed = [*cast("list[dict[str, object]]", value.get("components", [])), *packages]
    if listed:
        value["components"] = sorted(listed, key=lambda one: str(one["bom-ref"]))
    serial = uuid.uuid5(_SERIALS, str(Digest.of(write_json(value))))
    return Sbom(write_json({**value, _SERIAL: f"urn:uuid:{serial}"}), f"urn:cdx:{serial}/1")


def _fields(value: object) -> dict[str, object]:
    text = cast("_Serializable", value).as_json(view_=SchemaVersion1Dot6).encode()
    return cast("dict[str, object]", read_json(text, name="SBOM", limit=len(text)).value)


def _ordered(value: object) -> object:
    """Put every list in an order of its own: none here has a meaning, and the library's varies."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted(map(_ordered, value), key=write_json)
    return value
