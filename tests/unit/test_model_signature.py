"""What an OpenSSF model signature of a checkpoint says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME, Checkpoint, CheckpointFile
from bundler.manifest_codec import decode_manifest
from bundler.model_signature import model_signature_name, model_statement
from tests.small_release import DATA, RELEASE

MANIFEST = DATA / "format-1" / RELEASE.directory / MANIFEST_NAME


@pytest.fixture
def checkpoint() -> Checkpoint:
    return decode_manifest(MANIFEST.read_bytes(), name="m").checkpoint("tiny_2026.10")


def statement(checkpoint: Checkpoint) -> Any:
    return json.loads(model_statement(checkpoint))


def test_it_lists_the_files_without_the_top_directory(checkpoint: Checkpoint) -> None:
    predicate = statement(checkpoint)["predicate"]
    assert predicate["resources"] == [
        {"name": file.path, "algorithm": "sha256", "digest": file.digest.hex}
        for file in checkpoint.files
    ]
    assert "model.safetensors" in [one["name"] for one in predicate["resources"]]
    assert predicate["serialization"] == {
        "allow_symlinks": False,
        "hash_type": "sha256",
        "method": "files",
    }


def test_its_one_subject_is_the_digest_of_the_digests(checkpoint: Checkpoint) -> None:
    said = statement(checkpoint)
    whole = hashlib.sha256(b"".join(file.digest.raw for file in checkpoint.files)).hexdigest()
    assert said["subject"] == [{"name": "tiny", "digest": {"sha256": whole}}]
    assert said["predicateType"] == "https://model_signing/signature/v1.0"
    assert said["_type"] == "https://in-toto.io/Statement/v1"


def test_what_its_verifier_does_not_look_at_is_left_out_and_named(checkpoint: Checkpoint) -> None:
    names = [".gitattributes", ".github/x", ".gitx", "a/.gitignore"]
    files = [
        CheckpointFile(path=name, offset=512, size=0, digest=empty, parts=(empty,))
        for name in names
        for empty in [Digest.of(b"")]
    ]
    said = statement(replace(checkpoint, files=tuple(files)))
    predicate = said["predicate"]
    assert [one["name"] for one in predicate["resources"]] == [".gitx", "a/.gitignore"]
    assert predicate["serialization"]["ignore_paths"] == [".gitattributes", ".github"]
    twice = hashlib.sha256(Digest.of(b"").raw * 2).hexdigest()
    assert said["subject"][0]["digest"] == {"sha256": twice}


def test_the_name_says_of_what_and_whose_it_is(checkpoint: Checkpoint) -> None:
    assert model_signature_name(checkpoint, "3b05a0ff") == "tiny_2026.10.3b05a0ff.oms.json"
