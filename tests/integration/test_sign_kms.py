"""Signing with AWS KMS: against a stand-in that is as strict as KMS, judged by openssl."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.sums import SUMS_NAME
from tests.integration.signing import (
    Done,
    assert_openssl_accepts,
    bundle,
    bundle_without,
    names_in,
    new_release,
    told,
)
from tests.rehearsal.kms import ACCOUNT, Kms, fake_kms
from tests.rehearsal.serving import LOOPBACK, free_ports

KEY = "awskms:alias/release"
UNSIGNED = {"SHA256SUMS", "MANIFEST.json"}
# The release has one checkpoint: SHA256SUMS, the provenance and that model are signed.
SIGNATURES = 3


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    with fake_kms() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", running.url)
        running.add("alias/release")
        yield running


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return new_release(tmp_path / "release")


def sign(release: Path, key: str = KEY) -> Done:
    return bundle("sign", release, "--key", key)


def test_openssl_accepts_what_kms_signed(
    kms: Kms, release: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    done = sign(release)
    assert done.returncode == 0, done.stderr
    shown = bundle("key", "show", KEY, "--pem")
    key = assert_openssl_accepts(need("openssl"), release, shown.stdout, tmp_path)
    assert done.stdout.strip().endswith(f"SHA256SUMS.{key.key8}.sig")
    assert len(names_in(release) - UNSIGNED) == 1 + SIGNATURES
    assert kms.actions == ["GetPublicKey", *["Sign"] * SIGNATURES, "GetPublicKey"]


def test_a_digest_is_all_that_kms_gets(kms: Kms, release: Path) -> None:
    assert sign(release).returncode == 0
    bodies = [body for action, _, body in kms.requests if action == "Sign"]
    assert {body["MessageType"] for body in bodies} == {"DIGEST"}
    sent = [base64.b64decode(body["Message"]) for body in bodies]
    assert hashlib.sha256((release / SUMS_NAME).read_bytes()).digest() in sent
    assert {len(message) for message in sent} == {32}


def test_to_sign_again_asks_kms_for_no_signature(kms: Kms, release: Path) -> None:
    assert sign(release).returncode == 0
    kms.requests.clear()
    assert sign(release).returncode == 0
    assert kms.actions == ["GetPublicKey"]


@pytest.mark.parametrize(
    ("partition", "region"),
    [("aws", "us-west-2"), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")],
)
@pytest.mark.parametrize("name", ["alias/release", "key/1234abcd-12ab-34cd-56ef-1234567890ab"])
def test_an_arn_says_the_region_in_any_partition(
    kms: Kms, partition: str, region: str, name: str
) -> None:
    kms.add(name.removeprefix("key/"))
    arn = f"arn:{partition}:kms:{region}:{ACCOUNT}:{name}"
    assert bundle("key", "show", f"awskms:{arn}").returncode == 0
    assert [(asked, body["KeyId"]) for _, asked, body in kms.requests] == [(region, arn)]


def test_an_alias_is_looked_up_where_aws_region_says(kms: Kms) -> None:
    assert bundle("key", "show", KEY, env={"AWS_REGION": "eu-west-3"}).returncode == 0
    assert [region for _, region, _ in kms.requests] == ["eu-west-3"]


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384", "ECC_SECG_P256K1"])
def test_a_key_that_is_not_on_p256_is_refused_before_anything_is_signed(
    kms: Kms, release: Path, spec: str
) -> None:
    kms.add("other", spec)
    done = sign(release, "awskms:other")
    assert done.returncode == 3
    assert "P256" in told(done)[0].replace("-", "")
    assert kms.actions == ["GetPublicKey"]
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize(
    ("action", "code", "said", "hinted", "status"),
    [
        ("GetPublicKey", "AccessDeniedException", "kms:GetPublicKey", "kms:GetPublicKey", 9),
        ("Sign", "AccessDeniedException", "kms:Sign", "kms:Sign", 9),
        ("GetPublicKey", "DisabledException", "the key is disabled", "enable-key", 9),
        ("Sign", "DisabledException", "the key is disabled", "enable-key", 9),
        ("Sign", "KMSInvalidStateException", "in no state to sign", "describe-key", 9),
        ("GetPublicKey", "NotFoundException", "no such key", "AWS_REGION", 9),
        ("GetPublicKey", "UnsupportedOperationException", "ECC_NIST_P256", "create-key", 3),
        ("Sign", "InvalidKeyUsageException", "ECC_NIST_P256", "create-key", 3),
        ("GetPublicKey", "ExpiredTokenException", "session has expired", "log in again", 9),
        ("GetPublicKey", "UnrecognizedClientException", "access key is not known", "AWS_", 9),
        ("Sign", "SomethingNewException", "SomethingNewException", "AWS_", 9),
    ],
)
def test_what_kms_refuses_is_told_in_one_line_and_nothing_is_half_signed(
    kms: Kms, release: Path, action: str, code: str, said: str, hinted: str, status: int
) -> None:
    kms.refuse = {action: [code]}
    done = sign(release)
    assert done.returncode == status
    error, hint = told(done)
    assert error.startswith(f"{KEY}: ")
    assert said in error
    assert hinted in hint
    assert kms.actions.count(action) == 1
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize("time", range(SIGNATURES))
def test_a_key_that_is_disabled_on_the_way_leaves_nothing_half_signed(
    kms: Kms, release: Path, time: int
) -> None:
    kms.refuse = {"Sign": [*["", "", ""][:time], "DisabledException"]}
    assert sign(release).returncode == 9
    assert kms.actions.count("Sign") == time + 1
    assert names_in(release) == UNSIGNED


def test_throttling_is_waited_for(kms: Kms, release: Path) -> None:
    kms.refuse = {"Sign": ["ThrottlingException", "ThrottlingException", ""]}
    done = sign(release)
    assert done.returncode == 0, done.stderr
    assert kms.actions.count("Sign") == SIGNATURES + 2


def test_throttling_without_end_is_told_after_some_tries(kms: Kms, release: Path) -> None:
    kms.refuse = {"Sign": ["ThrottlingException"]}
    done = sign(release)
    assert done.returncode == 9
    error, hint = told(done)
    assert "too busy" in error
    assert "run again" in hint
    assert kms.actions.count("Sign") == 4
    assert names_in(release) == UNSIGNED


def test_a_server_that_is_not_there_is_named(kms: Kms, release: Path) -> None:
    url = f"http://{LOOPBACK}:{free_ports(1)[0]}"
    done = bundle("sign", release, "--key", KEY, env={"AWS_ENDPOINT_URL_KMS": url})
    assert done.returncode == 9
    assert told(done)[0] == f"{KEY}: cannot reach {url}"
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b"{}", b'{"PublicKey": "AAAA"}', b"[]"])
def test_an_answer_of_something_else_is_no_key(kms: Kms, release: Path, answer: bytes) -> None:
    kms.garbage = answer
    done = sign(release)
    assert done.returncode == 9
    assert "is none of AWS KMS" in told(done)[0]
    assert names_in(release) == UNSIGNED


def test_an_address_that_is_none_is_told_and_not_repeated(kms: Kms) -> None:
    done = bundle("key", "show", KEY, env={"AWS_ENDPOINT_URL_KMS": "user:canary@ no url"})
    assert done.returncode == 9
    assert "AWS_ENDPOINT_URL_KMS" in told(done)[1]
    assert "canary" not in done.stderr


def test_a_signature_of_something_else_is_never_written(kms: Kms, release: Path) -> None:
    kms.wrong = True
    done = sign(release)
    assert done.returncode == 8
    assert "does not hold" in told(done)[0]
    assert names_in(release) == UNSIGNED


@pytest.mark.parametrize(
    ("absent", "said", "hinted"),
    [
        ("AWS_REGION", "no AWS region", "AWS_REGION"),
        ("AWS_ACCESS_KEY_ID", "no AWS credentials", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_aws_needs_is_named(
    kms: Kms, monkeypatch: pytest.MonkeyPatch, absent: str, said: str, hinted: str
) -> None:
    monkeypatch.delenv(absent)
    done = bundle("key", "show", KEY)
    assert done.returncode == 9
    error, hint = told(done)
    assert said in error
    assert hinted in hint
    assert not kms.requests


def test_without_boto3_the_extra_is_named(release: Path) -> None:
    done = bundle_without("boto3", "sign", release, "--key", KEY)
    assert done.returncode == 9
    error, hint = told(done)
    assert error == f"{KEY}: the Python package boto3 is not installed"
    assert hint == "pip install 'airgap-llm-bundle[kms]'"
    assert names_in(release) == UNSIGNED
