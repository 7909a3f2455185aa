"""Sigstore bundles are written in one form, and read in no other."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import BundleError, CheckError, MalformedError
from bundler.signing.dsse import pre_authentication_encoding
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.signing.sigstore_bundle import (
    MAX_BUNDLE_BYTES,
    attestation_bundle,
    message_bundle,
    message_bundle_name,
    read_attestation_bundle,
    read_message_bundle,
)

CONTENT = b"0" * 64 + b"  MANIFEST.json\n"
STATEMENT = '{"_type": "caf\u00e9"}\n'.encode()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def new_key() -> PrivateKey:
    return read_private_key(new_key_pair(None)[0], None, name="k")


KEY, OTHER = new_key(), new_key()
SIGNATURE = KEY.sign(CONTENT)
MESSAGE = message_bundle(KEY.public, Digest.of(CONTENT), SIGNATURE)
ATTESTATION = attestation_bundle(KEY.public, STATEMENT, KEY.sign)
Change = Callable[[dict[str, Any]], object]
Read = Callable[[bytes, str], Any]


def changed(content: bytes, change: Change) -> bytes:
    value = json.loads(content)
    change(value)
    return json.dumps(value).encode()


def test_a_signature_is_read_back_and_holds() -> None:
    bundle = read_message_bundle(MESSAGE, "b")
    assert (bundle.signature, bundle.digest) == (SIGNATURE, Digest.of(CONTENT))
    assert bundle.holds(KEY.public, CONTENT)
    assert not bundle.holds(OTHER.public, CONTENT)
    assert not bundle.holds(KEY.public, CONTENT + b"\n")


def test_a_digest_that_is_not_the_contents_does_not_hold() -> None:
    wrong = message_bundle(KEY.public, Digest.of(b""), SIGNATURE)
    assert not read_message_bundle(wrong, "b").holds(KEY.public, CONTENT)


def test_a_statement_is_read_back_and_holds() -> None:
    bundle = read_attestation_bundle(ATTESTATION, "b")
    assert bundle.statement == STATEMENT
    assert bundle.holds(KEY.public)
    assert not bundle.holds(OTHER.public)


@given(st.binary(max_size=200))
def test_any_statement_is_read_back(statement: bytes) -> None:
    bundle = read_attestation_bundle(attestation_bundle(KEY.public, statement, KEY.sign), "b")
    assert bundle.statement == statement
    assert bundle.holds(KEY.public)


def test_a_signature_that_does_not_hold_makes_no_bundle() -> None:
    with pytest.raises(CheckError, match="does not hold"):
        attestation_bundle(KEY.public, STATEMENT, OTHER.sign)


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    """The test vector of DSSE v1.0.2, protocol.md."""
    encoded = pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_shape_is_that_of_version_0_3_with_a_key() -> None:
    hint = Digest.of(KEY.public.pem).hex
    material = {"publicKey": {"hint": hint}, "tlogEntries": []}
    message, attestation = json.loads(MESSAGE), json.loads(ATTESTATION)
    assert message == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": Digest.of(CONTENT).base64},
            "signature": base64.b64encode(SIGNATURE).decode(),
        },
    }
    assert attestation.keys() == {"mediaType", "verificationMaterial", "dsseEnvelope"}
    assert attestation["verificationMaterial"] == material
    envelope = attestation["dsseEnvelope"]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert [one["keyid"] for one in envelope["signatures"]] == [""]


def test_the_name_says_whose_it_is() -> None:
    assert message_bundle_name("3b05a0ff") == "SHA256SUMS.3b05a0ff.sigstore.json"


def der(r: int, s: int) -> str:
    return base64.b64encode(encode_dss_signature(r, s)).decode()


def put(field: str, value: object) -> Change:
    """Give a change of the field at a dotted path; a number is a place in a list."""

    def change(bundle: Any) -> None:
        *path, last = [int(p) if p.isdigit() else p for p in field.split(".")]
        for part in path:
            bundle = bundle[part]
        bundle[last] = value

    return change


R, S = decode_dss_signature(SIGNATURE)
# Keys are new in each run, and pytest wants the same names in all its processes.
BAD_SIGNATURES: dict[str, object] = {
    "empty": "",
    "no base64": "!",
    "white space": base64.b64encode(SIGNATURE).decode() + "\n",
    "a byte behind": base64.b64encode(SIGNATURE + b"\0").decode(),
    "cut off": base64.b64encode(SIGNATURE[:-1]).decode(),
    "a zero in front": base64.b64encode(b"\x30\x07\x02\x02\x00\x01\x02\x01\x01").decode(),
    "a long length": base64.b64encode(b"\x30\x81\x06\x02\x01\x01\x02\x01\x01").decode(),
    "r is 0": der(0, S),
    "s is 0": der(R, 0),
    "r is -1": base64.b64encode(b"\x30\x06\x02\x01\xff\x02\x01\x01").decode(),
    "r is the order": der(ORDER, S),
    "s is over the order": der(R, ORDER + S),
    "r is huge": der(1 << 400, S),
    "a number": 7,
    "null": None,
}


@pytest.mark.parametrize("signature", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_signature_in_another_form_is_refused(signature: object) -> None:
    for content, field, read in (
        (MESSAGE, "messageSignature.signature", read_message_bundle),
        (ATTESTATION, "dsseEnvelope.signatures.0.sig", read_attestation_bundle),
    ):
        with pytest.raises(MalformedError, match=r"^b: .*sig.*") as caught:
            read(changed(content, put(field, signature)), "b")
        assert "\n" not in str(caught.value)


MATERIAL = "verificationMaterial"
BOTH: list[tuple[Change, str]] = [
    (put("mediaType", "application/vnd.dev.sigstore.bundle.v0.2+json"), "mediaType"),
    (put("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.3"), "mediaType"),
    (put(f"{MATERIAL}.tlogEntries", [{}]), "tlogEntries: expected none"),
    (put(f"{MATERIAL}.tlogEntries", {}), "tlogEntries: expected a list"),
    (put(f"{MATERIAL}.certificate", {"rawBytes": ""}), "certificate: unknown field"),
    (put(f"{MATERIAL}.timestampVerificationData", {}), "unknown field"),
    (put(f"{MATERIAL}.publicKey.rawBytes", ""), "rawBytes: unknown field"),
    (put(f"{MATERIAL}.publicKey.hint", 3), "hint: expected a text"),
    (put(f"{MATERIAL}.publicKey.hint", "x" * 4097), "hint: expected at most 4096"),
    (put("x", 1), "x: unknown field"),
    (lambda bundle: bundle.pop("mediaType"), "mediaType: missing"),
]


@pytest.mark.parametrize(("change", "complaint"), BOTH)
def test_a_bundle_in_another_form_is_refused(change: Change, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        read_message_bundle(changed(MESSAGE, change), "b")
    with pytest.raises(MalformedError, match=complaint):
        read_attestation_bundle(changed(ATTESTATION, change), "b")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put("messageSignature.messageDigest.algorithm", "SHA2_512"), "algorithm"),
        (put("messageSignature.messageDigest.digest", "AAAA"), "digest: not 64"),
        (put("messageSignature.messageDigest.digest", "_" * 44), "digest: not base64"),
        (put("messageSignature.messageDigest.x", 1), "x: unknown field"),
        (put("messageSignature.x", 1), "x: unknown field"),
        (put("dsseEnvelope", {}), "dsseEnvelope: unknown field"),
        (lambda bundle: bundle.pop("messageSignature"), "missing"),
    ],
)
def test_a_message_in_another_form_is_refused(change: Change, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        read_message_bundle(changed(MESSAGE, change), "b")


ENTRY = json.loads(ATTESTATION)["dsseEnvelope"]["signatures"][0]
PAYLOAD = json.loads(ATTESTATION)["dsseEnvelope"]["payload"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put("dsseEnvelope.payloadType", "application/json"), "payloadType"),
        (put("dsseEnvelope.payload", PAYLOAD.rstrip("=") + "\n"), "payload: not base64"),
        (put("dsseEnvelope.payload", "w6n/"[:3] + "_"), "payload: not base64"),
        (put("dsseEnvelope.payload", "AB=="), "payload: not base64 in its one form"),
        (put("dsseEnvelope.payload", "\u00e9"), "payload: "),
        (put("dsseEnvelope.payload", None), "payload: expected a text"),
        (put("dsseEnvelope.payload", 1), "payload: expected a text"),
        (put("dsseEnvelope.signatures", []), "signatures: expected exactly one, got 0"),
        (put("dsseEnvelope.signatures", [ENTRY, ENTRY]), "expected exactly one, got 2"),
        (put("dsseEnvelope.signatures", "x"), "expected a list"),
        (put("dsseEnvelope.signatures.0.keyid", "3b05a0ff"), "keyid"),
        (put("dsseEnvelope.signatures.0.x", 1), "x: unknown field"),
        (put("dsseEnvelope.x", 1), "x: unknown field"),
        (put("messageSignature", {}), "messageSignature: unknown field"),
        (lambda bundle: bundle.pop("dsseEnvelope"), "missing"),
    ],
)
def test_an_envelope_in_another_form_is_refused(change: Change, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        read_attestation_bundle(changed(ATTESTATION, change), "b")


def test_an_absent_keyid_and_a_long_payload_are_read() -> None:
    bundle = changed(ATTESTATION, lambda b: b["dsseEnvelope"]["signatures"][0].pop("keyid"))
    assert read_attestation_bundle(bundle, "b").holds(KEY.public)
    long = attestation_bundle(KEY.public, b"x" * 100_000, KEY.sign)
    assert len(read_attestation_bundle(long, "b").statement) == 100_000


def test_a_bundle_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    for read in (read_message_bundle, read_attestation_bundle):
        with pytest.raises(MalformedError, match=f"^b: expected at most {MAX_BUNDLE_BYTES} bytes"):
            read(b"[" * (MAX_BUNDLE_BYTES + 1), "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"[]",
        lambda _: b"\xff",
        lambda _: b"[" * 5000,
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content + b"x",
        lambda content: content.replace(b'"mediaType"', b'"x": 1, "x": 2, "mediaType"'),
    ],
)
def test_what_is_no_json_of_one_meaning_is_refused(change: Callable[[bytes], bytes]) -> None:
    for content, read in ((MESSAGE, read_message_bundle), (ATTESTATION, read_attestation_bundle)):
        with pytest.raises(MalformedError, match=r"^b: "):
            read(change(content), "b")


@pytest.mark.parametrize(
    ("content", "read"),
    [(MESSAGE, read_message_bundle), (ATTESTATION, read_attestation_bundle)],
    ids=["message", "attestation"],
)
def test_no_flipped_byte_holds(content: bytes, read: Read) -> None:
    """What still holds differs in the hint alone, which proves nothing."""
    for n in range(len(content)):
        flipped = content[:n] + bytes([content[n] ^ 1 << n % 8]) + content[n + 1 :]
        assert not held(read, flipped) or without_hint(flipped) == without_hint(content)


def held(read: Read, content: bytes) -> bool:
    try:
        bundle = read(content, "b")
    except BundleError:
        return False
    rest = [CONTENT] if read is read_message_bundle else []
    return bool(bundle.holds(KEY.public, *rest))


def without_hint(content: bytes) -> object:
    value = json.loads(content)
    material = value["verificationMaterial"]
    material["publicKey"] = None
    return value


def swapped(content: bytes, other: bytes, *path: str) -> bytes:
    """Give a bundle with one field of another one."""
    value, donor = json.loads(content), json.loads(other)
    table = value
    for part in path[:-1]:
        table, donor = table[part], donor[part]
    table[path[-1]] = donor[path[-1]]
    return json.dumps(value).encode()


def certificate(bundle: dict[str, Any]) -> None:
    bundle[MATERIAL] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}


ENVELOPE = attestation_bundle(KEY.public, b"{}", KEY.sign)
FORGED = attestation_bundle(OTHER.public, STATEMENT, OTHER.sign)
CASES: dict[str, tuple[Read, bytes]] = {
    "managed-key-wrong-key_fail": (
        read_message_bundle,
        message_bundle(OTHER.public, Digest.of(CONTENT), OTHER.sign(CONTENT)),
    ),
    "managed-key-no-key_fail": (read_message_bundle, changed(MESSAGE, certificate)),
    "message-digest-mismatch_fail": (
        read_message_bundle,
        message_bundle(KEY.public, Digest.of(b"a"), SIGNATURE),
    ),
    "signature-mismatch_fail": (
        read_message_bundle,
        message_bundle(KEY.public, Digest.of(CONTENT), KEY.sign(b"a")),
    ),
    "dsse-invalid-sig_fail": (
        read_attestation_bundle,
        swapped(ATTESTATION, FORGED, "dsseEnvelope", "signatures"),
    ),
    "dsse-mismatch-sig_fail": (
        read_attestation_bundle,
        swapped(ATTESTATION, ENVELOPE, "dsseEnvelope", "signatures"),
    ),
    "dsse-mismatch-envelope_fail": (
        read_attestation_bundle,
        swapped(ATTESTATION, ENVELOPE, "dsseEnvelope", "payload"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cases_of_sigstore_conformance_for_keys_are_refused(case: str) -> None:
    """Called as the suite calls them; cases of certificates and logs cannot reach us."""
    read, content = CASES[case]
    assert not held(read, content)


def test_the_case_managed_key_happy_path_of_sigstore_conformance_holds() -> None:
    assert held(read_message_bundle, MESSAGE)
    assert held(read_attestation_bundle, ATTESTATION)
