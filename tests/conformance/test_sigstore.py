"""Cases of sigstore-conformance about the form of a bundle, by their names there.

Its cases of signatures by keys are in ``tests/unit/test_sigstore_bundle.py``.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.signing.sigstore_bundle import message_bundle, read_message_bundle

KEY = read_private_key(new_key_pair(None)[0], None, name="k")
CONTENT = b"0" * 64 + b"  MANIFEST.json\n"
GOOD = message_bundle(KEY.public, Digest.of(CONTENT), KEY.sign(CONTENT))
CERTIFICATE = base64.b64encode(b"a certificate").decode()
ENTRY = {"logIndex": "1", "integratedTime": "1", "canonicalizedBody": "e30="}
MATERIAL = "verificationMaterial"


def bundle(**material: Any) -> bytes:
    """Give a good bundle whose material says something else; null takes a field away."""
    value = json.loads(GOOD)
    for field, content in material.items():
        value[MATERIAL][field] = content
        if content is None:
            del value[MATERIAL][field]
    return json.dumps(value).encode()


def top(**fields: Any) -> bytes:
    return json.dumps(json.loads(GOOD) | fields).encode()


MESSAGE = json.loads(GOOD)["messageSignature"]
CHAIN = {"certificates": [{"rawBytes": CERTIFICATE}]}
CASES = {
    "bundle-malformed-json_fail": GOOD[:-2],
    "bundle-unknown-version_fail": top(
        mediaType="application/vnd.dev.sigstore.bundle+json;version=99.9"
    ),
    "bundle-invalid-base64-signature_fail": top(
        messageSignature=MESSAGE | {"signature": "not!base64"}
    ),
    "bundle-empty-certificate-chain_fail": bundle(
        publicKey=None, x509CertificateChain={"certificates": []}
    ),
    "bundle-with-root-cert_fail": bundle(publicKey=None, x509CertificateChain=CHAIN),
    "bundle-negative-log-index_fail": bundle(tlogEntries=[ENTRY | {"logIndex": "-1"}]),
    "bundle-from-wrong-instance_fail": bundle(tlogEntries=[ENTRY]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_that_is_to_fail_is_not_read(case: str) -> None:
    with pytest.raises(MalformedError):
        read_message_bundle(CASES[case], "b")


def test_what_the_cases_were_made_from_holds() -> None:
    assert read_message_bundle(bundle(), "b").holds(KEY.public, CONTENT)
    assert read_message_bundle(top(), "b").holds(KEY.public, CONTENT)


def test_wrong_material_fail() -> None:
    """A good bundle beside another file than the one that was signed."""
    read = read_message_bundle(GOOD, "b")
    assert not read.holds(KEY.public, CONTENT + b"more")
