"""What a provenance statement says, and that it says nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.provenance import provenance_name, provenance_statement
from bundler.sums import SUMS_NAME, read_release_sums
from tests.small_release import DATA, RELEASE

RELEASED = DATA / "format-1" / RELEASE.directory
SUMS = read_release_sums((RELEASED / SUMS_NAME).read_bytes())


@pytest.fixture
def manifest() -> Manifest:
    return decode_manifest((RELEASED / MANIFEST_NAME).read_bytes(), name=MANIFEST_NAME)


def statement(manifest: Manifest) -> Any:
    return json.loads(provenance_statement(manifest, SUMS))


def test_the_subjects_are_the_lines_of_sha256sums(manifest: Manifest) -> None:
    said = statement(manifest)
    lines = (RELEASED / SUMS_NAME).read_text().splitlines()
    assert [f"{s['digest']['sha256']}  {s['name']}" for s in said["subject"]] == lines
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"


def test_it_names_what_the_release_was_made_from(manifest: Manifest) -> None:
    definition = statement(manifest)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "name": "tiny-inference",
        "sequence": 1,
        "version": "2026.11.0",
    }
    image, chart = manifest.images[0], manifest.own_chart
    assert definition["resolvedDependencies"] == [
        {
            "name": "images/atlas:1.0.0",
            "uri": "docker://registry.example.com/atlas:1.0.0",
            "digest": {"sha256": image.source_digest.hex},
        },
        {
            "name": "charts/inference",
            "digest": {"treeSha256": chart.digest.hex},
            "annotations": {"version": "2026.11.0"},
        },
        *(
            {"name": f"checkpoints/{c.name}", "digest": {"treeSha256": c.identity.hex}}
            for c in manifest.checkpoints
        ),
    ]


def test_an_image_is_named_by_its_digest_at_its_source(manifest: Manifest) -> None:
    there = Digest.of(b"as it was there")
    image = replace(manifest.images[0], source="oci:/a b/\u00e9%", source_digest=there)
    said = statement(replace(manifest, images=(image,)))
    dependency = said["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert dependency["digest"] == {"sha256": there.hex}
    assert dependency["uri"] == "oci:/a%20b/%C3%A9%25"


def test_no_clock_and_no_host_gets_in(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = provenance_statement(manifest, SUMS)
    monkeypatch.setattr("time.time", lambda: 0)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert provenance_statement(manifest, dict(reversed(SUMS.items()))) == first
    assert json.loads(first)["predicate"]["runDetails"].keys() == {"builder"}


def test_more_subjects_than_verifiers_take_are_refused(manifest: Manifest) -> None:
    many = {f"{n}.tar": Digest.of(b"") for n in range(1024)}
    with pytest.raises(MalformedError, match="expected at most 1023 files in SHA256SUMS, got 1024"):
        provenance_statement(manifest, many)
    many.popitem()
    assert len(json.loads(provenance_statement(manifest, many))["subject"]) == 1023


def test_the_name_says_whose_it_is() -> None:
    assert provenance_name("3b05a0ff") == "provenance.3b05a0ff.sigstore.json"
