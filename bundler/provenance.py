"""Where a release comes from, as an in-toto statement with a SLSA provenance in it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.jsontext import write_json
from bundler.manifest import FORMAT_VERSION, MAX_ARCHIVES, Chart, Checkpoint, Image, Manifest

_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
# A package URL: it says what built, and names no host. FORMAT.md, "Provenance", explains both.
_BUILDER = "pkg:generic/airgap-llm-bundle"
_BUILD_TYPE = f"{_BUILDER}#release/v{FORMAT_VERSION}"
_MAX_SUBJECTS = MAX_ARCHIVES + 1
# What may stand in a URI without a percent sign. Source: RFC 3986, sections 2.2 and 2.3.
_URI_CHARACTERS = ":/?#[]@!$&'()*+,;=~"


def provenance_name(key8: str) -> str:
    """Name the file that holds a key's provenance statement."""
    return f"provenance.{key8}.sigstore.json"


def provenance_statement(manifest: Manifest, sums: Mapping[str, Digest]) -> bytes:
    """Say what a release was made from; the same bytes on every machine at any time.

    Args:
        manifest: Of the release.
        sums: What its SHA256SUMS says: the subjects.

    Raises:
        MalformedError: There are 1024 subjects or more, which verifiers refuse.

    Source:
        in-toto attestation framework, spec/v1/statement.md; SLSA provenance v1.
    """
    if len(sums) > _MAX_SUBJECTS:
        raise MalformedError(
            f"provenance: expected at most {_MAX_SUBJECTS} files in SHA256SUMS, got {len(sums)}"
        )
    return write_json(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": _sha256(sums[name])}
                for name in sorted(sums, key=str.encode)
            ],
            "predicateType": PROVENANCE_TYPE,
            "predicate": {
                "buildDefinition": _build_definition(manifest),
                "runDetails": {
                    "builder": {"id": _BUILDER, "version": {"format": str(FORMAT_VERSION)}}
                },
            },
        }
    )


def _build_definition(manifest: Manifest) -> dict[str, object]:
    release = manifest.release
    return {
        "buildType": _BUILD_TYPE,
        "externalParameters": {
            "name": release.name,
            "version": release.version,
            "sequence": release.sequence,
        },
        "resolvedDependencies": [
            *map(_image, manifest.images),
            *map(_chart, manifest.charts),
            *map(_checkpoint, manifest.checkpoints),
        ],
    }


def _image(image: Image) -> dict[str, object]:
    return {
        "name": f"images/{image.tag}",
        "uri": quote(image.source, safe=_URI_CHARACTERS),
        "digest": _sha256(image.source_digest),
    }


def _chart(chart: Chart) -> dict[str, object]:
    digest = _sha256(chart.digest) if chart.is_archive else _tree(chart.digest)
    return {
        "name": f"charts/{chart.name}",
        "digest": digest,
        "annotations": {"version": chart.version},
    }


def _checkpoint(checkpoint: Checkpoint) -> dict[str, object]:
    return {"name": f"checkpoints/{checkpoint.name}", "digest": _tree(checkpoint.identity)}


def _sha256(digest: Digest) -> dict[str, str]:
    return {"sha256": digest.hex}


def _tree(identity: Digest) -> dict[str, str]:
    """Give a digest that no single file has: FORMAT.md, "Identity"."""
    return {"treeSha256": identity.hex}
