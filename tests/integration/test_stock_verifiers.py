"""What travels with a release, judged by tools that others wrote, as they stand and offline.

openssl and coreutils; cosign; sigstore-js; model_signing; in-toto-attestation.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bundler.build.contents import operator_guide
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.model_signature import MODEL_SIGNATURE_TYPE, model_signature_name
from bundler.provenance import provenance_name
from bundler.release import signature_name
from bundler.sign import sign_release
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.signing.sigstore_bundle import message_bundle_name
from bundler.sums import SUMS_NAME
from tests.rehearsal import go_build, verifiers
from tests.rehearsal.fixtures import need as need_to
from tests.rehearsal.go_programs import COSIGN
from tests.rehearsal.verifiers import Verifiers
from tests.small_release import (
    DATA,
    RELEASE,
    make_checkpoint,
    replace_checkpoint,
    write_small_files,
)

KEY = read_private_key(new_key_pair(None)[0], None, name="k")
OTHER = read_private_key(new_key_pair(None)[0], None, name="o")
KEY8 = KEY.public.key8
MESSAGE, PROVENANCE = message_bundle_name(KEY8), provenance_name(KEY8)
SLSA = "slsaprovenance1"
BUNDLE = f"{RELEASE.directory}.tar.gz"
ARCHIVES = (BUNDLE, "sharded_2026.10.tar", "tiny_2026.10.tar")
Need = Callable[[str], str]
Done = subprocess.CompletedProcess[str]


def offline(*argv: object, cwd: Path | None = None, path: Sequence[str] = ()) -> Done:
    """Run a program where there is no network, not even loopback."""
    words = ["unshare", "--map-root-user", "--net", "--", *map(str, argv)]
    env = os.environ | {"PATH": os.pathsep.join([*path, os.environ["PATH"]]), "LC_ALL": "C"}
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="session")
def cosign() -> Path:
    return need_to(lambda: go_build.find(COSIGN))


@pytest.fixture(scope="session")
def others() -> Verifiers:
    return need_to(verifiers.find)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Give a signed release, with what an operator has of the key beside it."""
    directory = Path(shutil.copytree(DATA / "format-1" / RELEASE.directory, tmp_path / "release"))
    for signature in directory.glob("*.sig"):
        signature.unlink()
    sign_release(directory, KEY)
    return with_key(directory, KEY)


def with_key(release: Path, key: PrivateKey) -> Path:
    (release / "release.pub").write_bytes(key.public.pem)
    return release


def manifest_of(release: Path) -> Manifest:
    return decode_manifest((release / MANIFEST_NAME).read_bytes(), name="m")


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_base64(path: Path, *fields: str | int, place: int = -1) -> None:
    """Change one bit of what a field of a bundle holds."""
    whole = json.loads(path.read_bytes())
    table: Any = whole
    for field in fields[:-1]:
        table = table[field]
    content = bytearray(base64.b64decode(table[fields[-1]]))
    content[place] ^= 1
    table[fields[-1]] = base64.b64encode(content).decode()
    path.write_text(json.dumps(whole))


def guide_of(manifest: Manifest) -> str:
    return operator_guide(
        release=manifest.release,
        images=manifest.images,
        chart=manifest.own_chart,
        checkpoints=manifest.checkpoints,
        models=manifest.models,
    ).decode()


def commands(guide: str) -> list[str]:
    """Give the commands of the guide's first section that name nothing to be filled in.

    The last one of them is for the bundle's root, after unpacking, and is not among them.
    """
    section = guide.partition("## 1. Verify\n")[2].partition("## 2.")[0]
    section = section.partition("After unpacking")[0]
    blocks = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert len(blocks) == 5, "another number of commands than this test knows"
    return blocks


def run_guide(release: Path, blocks: Sequence[str], cosign: Path) -> Done:
    script = "set -euo pipefail\n" + "".join(blocks)
    return offline("bash", "-c", script, cwd=release, path=[str(cosign.parent)])


def test_the_guides_commands_verify_a_release_as_they_stand(release: Path, cosign: Path) -> None:
    done = run_guide(release, commands(guide_of(manifest_of(release))), cosign)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("Verified OK") == 3
    assert [f"{name}: OK" in said for name in (MANIFEST_NAME, *ARCHIVES)] == [True] * 4
    assert f"{KEY.public.spki_digest.hex}  -" in said


def test_the_guides_commands_find_one_signer_among_several(release: Path, cosign: Path) -> None:
    sign_release(release, OTHER)
    for key in (KEY, OTHER):
        blocks = commands(guide_of(manifest_of(with_key(release, key))))
        said = [run_one(release, block, cosign) for block in blocks]
        assert [text.count("Verified OK") for text in said] == [0, 0, 1, 0, 2]


def run_one(release: Path, block: str, cosign: Path) -> str:
    done = offline("bash", "-c", block, cwd=release, path=[str(cosign.parent)])
    return done.stdout + done.stderr


# Which of the guide's blocks each file is for: openssl, sha256sum, cosign.
OPENSSL, COREUTILS, SIGSTORE = 2, 3, 4


@pytest.mark.parametrize(
    ("pattern", "refused_by"),
    [
        (SUMS_NAME, {OPENSSL, COREUTILS, SIGSTORE}),
        (MANIFEST_NAME, {COREUTILS, SIGSTORE}),
        *((name, {COREUTILS}) for name in ARCHIVES),
        (signature_name("KEY8"), {OPENSSL}),
        (message_bundle_name("KEY8"), {SIGSTORE}),
        (provenance_name("KEY8"), {SIGSTORE}),
    ],
)
def test_the_guides_commands_refuse_a_flipped_byte(
    release: Path, cosign: Path, pattern: str, refused_by: set[int]
) -> None:
    flip(release / pattern.replace("KEY8", KEY8), place=9)
    blocks = commands(guide_of(manifest_of(DATA / "format-1" / RELEASE.directory)))
    for number in (OPENSSL, COREUTILS, SIGSTORE):
        done = run_guide(release, [blocks[number]], cosign)
        assert (done.returncode != 0) == (number in refused_by), (number, done.stderr)


def verify_blob(cosign: Path, release: Path, file: str = SUMS_NAME) -> Done:
    words = ("--key", "release.pub", "--bundle", MESSAGE, "--insecure-ignore-tlog", file)
    return offline(cosign, "verify-blob", *words, cwd=release)


def verify_attestation(
    cosign: Path, release: Path, file: str, name: str = PROVENANCE, *options: str
) -> Done:
    words = ("--key", "release.pub", "--bundle", name, "--insecure-ignore-tlog")
    options = options or ("--type", SLSA)
    return offline(cosign, "verify-blob-attestation", *words, *options, file, cwd=release)


def test_cosign_refuses_another_key_and_another_signature(release: Path, cosign: Path) -> None:
    assert verify_blob(cosign, release).returncode == 0
    assert verify_blob(cosign, with_key(release, OTHER)).returncode != 0
    with_key(release, KEY)
    assert verify_blob(cosign, release, MANIFEST_NAME).returncode != 0
    flip_base64(release / MESSAGE, "messageSignature", "signature")
    assert verify_blob(cosign, release).returncode != 0


def test_cosign_takes_the_provenance_for_each_delivered_file(release: Path, cosign: Path) -> None:
    for name in (MANIFEST_NAME, *ARCHIVES):
        done = verify_attestation(cosign, release, name)
        assert done.returncode == 0, done.stderr
    assert verify_attestation(cosign, release, SUMS_NAME).returncode != 0
    assert verify_attestation(cosign, with_key(release, OTHER), MANIFEST_NAME).returncode != 0
    with_key(release, KEY)
    flip(release / ARCHIVES[-1])
    assert verify_attestation(cosign, release, ARCHIVES[-1]).returncode != 0
    for fields in (("payload",), ("signatures", 0, "sig")):
        changed = release / f"{fields[0]}.json"
        shutil.copyfile(release / PROVENANCE, changed)
        flip_base64(changed, "dsseEnvelope", *fields)
        assert verify_attestation(cosign, release, MANIFEST_NAME, changed.name).returncode != 0


def test_cosign_takes_a_models_signature(release: Path, cosign: Path) -> None:
    """It knows nothing of the files; what it says is who signed the statement."""
    for checkpoint in manifest_of(release).checkpoints:
        name = model_signature_name(checkpoint, KEY8)
        options = ("--check-claims=false", "--type", MODEL_SIGNATURE_TYPE)
        done = verify_attestation(cosign, release, MANIFEST_NAME, name, *options)
        assert done.returncode == 0, done.stderr
        flip_base64(release / name, "dsseEnvelope", "payload", place=40)
        done = verify_attestation(cosign, release, MANIFEST_NAME, name, *options)
        assert done.returncode != 0


def test_sigstore_js_takes_all_and_refuses_flipped_bytes(release: Path, others: Verifiers) -> None:
    key, sums = release / "release.pub", release / SUMS_NAME
    statements = [*release.glob("provenance.*"), *release.glob("*.oms.json")]
    assert len(statements) == 3
    whole = [others.sigstore_js(key, one) for one in statements]
    whole.append(others.sigstore_js(key, release / MESSAGE, sums))
    for argv in whole:
        done = offline(*argv)
        assert (done.returncode, done.stdout) == (0, "verified\n"), done.stderr
    with_key(release, OTHER)
    assert all(offline(*argv).returncode for argv in whole)
    with_key(release, KEY)
    flip(sums)
    for one in statements:
        flip_base64(one, "dsseEnvelope", "payload", place=40)
    assert all(offline(*argv).returncode for argv in whole)


@pytest.fixture
def unpacked(release: Path, tmp_path: Path) -> Path:
    return extract(release, "tiny_2026.10.tar", tmp_path)


def extract(release: Path, archive: str, tmp_path: Path) -> Path:
    """Let the command unpack a checkpoint."""
    bundle = Path(sys.prefix, "bin", "bundle")
    out = tmp_path / "unpacked"
    words = ("extract", release, out, "--only", archive, "--key", release / "release.pub")
    subprocess.run([bundle, *words], check=True, capture_output=True)
    return out


def model_signing(
    others: Verifiers, release: Path, model: Path, name: str = "tiny_2026.10"
) -> Done:
    """Run the very command of the operator's guide."""
    guide = guide_of(manifest_of(release))
    [command] = re.findall(r"^    model_signing (verify key .*)$", guide, re.MULTILINE)
    command = command.replace("<directory>", str(model))
    command = command.replace("<signature>", f"{name}.{KEY8}.oms.json")
    return offline(others.python, "-m", "model_signing", *command.split(), cwd=release)


def test_model_signing_takes_what_extract_unpacks(
    release: Path, unpacked: Path, others: Verifiers
) -> None:
    done = model_signing(others, release, unpacked)
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


def grow(model: Path) -> None:
    (model / "more.json").write_text("{}")


def shrink(model: Path) -> None:
    (model / "tokenizer/vocab.txt").unlink()


def rename(model: Path) -> None:
    (model / "config.json").rename(model / "config.jsonl")


@pytest.mark.parametrize(
    "change", [lambda model: flip(model / "model.safetensors"), grow, shrink, rename]
)
def test_model_signing_refuses_a_changed_model(
    release: Path, unpacked: Path, others: Verifiers, change: Callable[[Path], None]
) -> None:
    change(unpacked)
    done = model_signing(others, release, unpacked)
    assert done.returncode != 0
    assert "Signature mismatch" in done.stderr


def test_model_signing_refuses_another_signature_and_another_key(
    release: Path, unpacked: Path, others: Verifiers
) -> None:
    assert model_signing(others, release, unpacked, "sharded_2026.10").returncode != 0
    assert model_signing(others, with_key(release, OTHER), unpacked).returncode != 0
    with_key(release, KEY)
    signature = release / f"tiny_2026.10.{KEY8}.oms.json"
    for fields in (("payload",), ("signatures", 0, "sig")):
        before = signature.read_bytes()
        flip_base64(signature, "dsseEnvelope", *fields, place=40)
        assert model_signing(others, release, unpacked).returncode != 0
        signature.write_bytes(before)
    assert model_signing(others, release, unpacked).returncode == 0


def test_model_signing_takes_a_model_with_gits_own_files(
    release: Path, tmp_path: Path, others: Verifiers
) -> None:
    """A repository's snapshot has them; the verifier leaves them out unless it is told not to."""
    for path in release.glob(f"*{KEY8}*"):
        path.unlink()
    (release / "tiny_2026.10.tar").unlink()
    files = {".gitattributes": b"*.bin lfs\n", ".github/x.yml": b"x", "a/.gitignore": b"y"}
    checkpoint = make_checkpoint(release, tmp_path, "tiny_2026.10", "tiny", files)
    write_small_files(release, replace_checkpoint(manifest_of(release), checkpoint))
    sign_release(release, KEY)
    unpacked = extract(release, "tiny_2026.10.tar", tmp_path)
    assert model_signing(others, release, unpacked).returncode == 0
    flip(unpacked / "a/.gitignore")
    assert model_signing(others, release, unpacked).returncode != 0


VALIDATE = """
import json, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
text = sys.stdin.read()
message = json_format.Parse(text, statement_pb2.Statement())
Statement.copy_from_pb(message).validate()
if message.predicate_type == "https://slsa.dev/provenance/v1":
    json_format.ParseDict(json.loads(text)["predicate"], Provenance())
print(len(message.subject), message.predicate_type)
"""


def validate(others: Verifiers, statement: bytes) -> Done:
    argv = [others.python, "-c", VALIDATE]
    return subprocess.run(
        argv, input=statement.decode(), capture_output=True, text=True, check=False, timeout=60
    )


def test_in_toto_attestation_takes_our_statements(release: Path, others: Verifiers) -> None:
    expected = {PROVENANCE: "4 https://slsa.dev/provenance/v1"}
    expected |= {path.name: f"1 {MODEL_SIGNATURE_TYPE}" for path in release.glob("*.oms.json")}
    for name, said in expected.items():
        envelope = json.loads((release / name).read_bytes())["dsseEnvelope"]
        statement = base64.b64decode(envelope["payload"])
        done = validate(others, statement)
        assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
        without = json.loads(statement)
        del without["subject"][0]["digest"]
        assert validate(others, json.dumps(without).encode()).returncode != 0


def test_in_toto_attestation_knows_each_field_of_our_provenance(
    release: Path, others: Verifiers
) -> None:
    envelope = json.loads((release / PROVENANCE).read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["runDetails"]["builder"]["name"] = "x"
    assert "has no field named" in validate(others, json.dumps(statement).encode()).stderr
