"""Files for other people's tools that do not hold are told of, and decide nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundler.added_files import added_problems
from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME, Checkpoint, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.model_signature import model_signature_name, model_statement
from bundler.provenance import provenance_name, provenance_statement
from bundler.release import open_release, signature_name
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.signing.sigstore_bundle import (
    attestation_bundle,
    message_bundle,
    message_bundle_name,
    read_attestation_bundle,
)
from bundler.sums import SUMS_NAME, read_release_sums
from bundler.trust import Trust
from tests.small_release import DATA, RELEASE


def new_key() -> PrivateKey:
    return read_private_key(new_key_pair(None)[0], None, name="k")


KEY, OTHER = new_key(), new_key()
KEY8 = KEY.public.key8


def write_all(release: Path, key: PrivateKey) -> Manifest:
    """Write all that a signer leaves, by the names that it has for a key."""
    sums_bytes = (release / SUMS_NAME).read_bytes()
    manifest = decode_manifest((release / MANIFEST_NAME).read_bytes(), name="m")
    public, signature = key.public, key.sign(sums_bytes)
    content = {
        signature_name(public.key8): signature,
        message_bundle_name(public.key8): message_bundle(public, Digest.of(sums_bytes), signature),
        provenance_name(public.key8): attestation_bundle(
            public, provenance_statement(manifest, read_release_sums(sums_bytes)), key.sign
        ),
    } | {
        model_signature_name(one, public.key8): attestation_bundle(
            public, model_statement(one), key.sign
        )
        for one in manifest.checkpoints
    }
    for name, one in content.items():
        (release / name).write_bytes(one)
    return manifest


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = Path(shutil.copytree(DATA / "format-1" / RELEASE.directory, tmp_path / "release"))
    write_all(directory, KEY)
    return directory


def findings(release: Path) -> tuple[str, ...]:
    return added_problems(open_release(release, Trust.of_keys([KEY.public])))


def test_what_a_signer_leaves_holds(release: Path) -> None:
    assert findings(release) == ()
    assert len(list(release.glob("*.json"))) == 1 + 4


def test_what_is_not_there_is_no_finding(release: Path) -> None:
    for path in [*release.glob("*.sigstore.json"), *release.glob("*.oms.json")]:
        path.unlink()
    assert findings(release) == ()


def test_nothing_is_made_up_to_compare_what_is_not_there(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement of a large checkpoint is as large as the manifest."""

    def never(_checkpoint: Checkpoint) -> bytes:
        raise AssertionError

    for path in release.glob("*.oms.json"):
        path.unlink()
    monkeypatch.setattr("bundler.added_files.model_statement", never)
    assert findings(release) == ()


def test_what_others_signed_is_not_judged(release: Path) -> None:
    write_all(release, OTHER)
    (release / provenance_name(OTHER.public.key8)).write_bytes(b"?")
    assert findings(release) == ()


# Keys are new in each run, and pytest wants the same names in all its processes.
PATTERNS = [
    message_bundle_name("KEY8"),
    provenance_name("KEY8"),
    "tiny_2026.10.KEY8.oms.json",
    "sharded_2026.10.KEY8.oms.json",
]


@pytest.fixture
def name(pattern: str) -> str:
    return pattern.replace("KEY8", KEY8)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_file_that_does_not_hold_is_named(release: Path, name: str) -> None:
    write_all(release, OTHER)
    (release / name.replace(KEY8, OTHER.public.key8)).rename(release / name)
    [line] = findings(release)
    assert line.startswith(f"{release}/{name}: expected ")
    assert f"key {KEY8}" in line
    assert "\n" not in line


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_file_that_nobody_can_read_is_named(release: Path, name: str) -> None:
    for content in (b"{", b"", b"x" * (2 << 20)):
        (release / name).write_bytes(content)
        [line] = findings(release)
        assert name in line
        assert "\n" not in line
    (release / name).unlink()
    (release / name).symlink_to(release / SUMS_NAME)
    [line] = findings(release)
    assert name in line


@pytest.mark.parametrize("pattern", PATTERNS[1:])
@pytest.mark.parametrize("field", ["_type", "predicateType", "subject"])
@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_statement_without_its_fields_is_named(
    release: Path, name: str, field: str, change: str
) -> None:
    """As sigstore-conformance has it: dsse-statement-missing-type, dsse-statement-unknown-type."""
    said = json.loads(read_attestation_bundle((release / name).read_bytes(), "b").statement)
    del said[field]
    if change == "unknown":
        said[field] = "https://example.com/Statement/v9"
    bundle = attestation_bundle(KEY.public, json.dumps(said).encode(), KEY.sign)
    (release / name).write_bytes(bundle)
    assert len(findings(release)) == 1


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_a_statement_about_something_else_is_named(release: Path, name: str) -> None:
    statement = json.dumps({"predicateType": "x", "subject": [{"name": "\x1b"}]}).encode()
    (release / name).write_bytes(attestation_bundle(KEY.public, statement, KEY.sign))
    assert findings(release) == (
        f"{release}/{name}: expected a statement about this release, got another",
    )
    (release / name).write_bytes(attestation_bundle(KEY.public, b"[]", KEY.sign))
    assert len(findings(release)) == 1


def test_a_newer_builder_may_say_more_of_how_it_was_built(release: Path) -> None:
    manifest = write_all(release, KEY)
    sums = read_release_sums((release / SUMS_NAME).read_bytes())
    said = json.loads(provenance_statement(manifest, sums))
    said["predicate"]["runDetails"]["metadata"] = {"invocationId": "7"}
    bundle = attestation_bundle(KEY.public, json.dumps(said).encode(), KEY.sign)
    (release / provenance_name(KEY8)).write_bytes(bundle)
    assert findings(release) == ()
