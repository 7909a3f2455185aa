"""Keys: what is taken, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import configparser
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import DeniedError, MalformedError
from bundler.signing.key_uri import FileKey, HsmKey, KeyUri, KmsKey, read_key_uri
from bundler.signing.keys import (
    MAX_KEY_BYTES,
    PublicKey,
    needs_passphrase,
    new_key_pair,
    read_private_key,
    read_public_key,
)

PRIVATE_PEM, PUBLIC_PEM = new_key_pair(None)
PRIVATE = read_private_key(PRIVATE_PEM, None, name="key")
PUBLIC = read_public_key(PUBLIC_PEM, name="pub")
OTHER = read_public_key(new_key_pair(None)[1], name="other")


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@given(st.binary(max_size=300))
def test_a_signature_holds_for_its_content_and_its_key_only(content: bytes) -> None:
    signature = PRIVATE.sign(content)
    assert PUBLIC.verify(signature, content)
    assert not PUBLIC.verify(signature, content + b"\0")
    assert not OTHER.verify(signature, content)


def test_every_other_byte_of_a_signature_is_refused() -> None:
    signature = PRIVATE.sign(b"content")
    for position in range(len(signature)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(signature)
            changed[position] ^= flip
            assert not PUBLIC.verify(bytes(changed), b"content")


@pytest.mark.parametrize("signature", [b"", b"\0", b"0\x06\x02\x01\0\x02\x01\0", b"x" * 1000])
def test_what_is_no_signature_does_not_hold(signature: bytes) -> None:
    assert not PUBLIC.verify(signature, b"content")


def test_bytes_behind_a_signature_are_refused() -> None:
    assert not PUBLIC.verify(PRIVATE.sign(b"content") + b"\0", b"content")


def test_a_key_is_known_by_the_hash_of_its_der() -> None:
    loaded = load_pem_public_key(PUBLIC_PEM)
    der = loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert PUBLIC.spki_digest.hex == hashlib.sha256(der).hexdigest()
    assert PUBLIC.spki_digest.hex.startswith(PUBLIC.key8)
    assert len(PUBLIC.key8) == 8


def test_the_private_key_knows_its_public_half() -> None:
    assert PRIVATE.public == PUBLIC


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(PUBLIC_PEM.replace(b"\n", b"\r\n"), id="windows lines"),
        pytest.param(b"\n" + PUBLIC_PEM + b"\n\n", id="blank lines"),
    ],
)
def test_the_same_key_in_other_bytes_is_the_same_key(same: bytes) -> None:
    assert read_public_key(same, name="pub") == PUBLIC


@pytest.mark.parametrize(
    ("pem", "got"),
    [
        pytest.param(b"", "expected one", id="empty"),
        pytest.param(PUBLIC_PEM * 2, "expected one", id="two keys"),
        pytest.param(b"comment\n" + PUBLIC_PEM, "expected one", id="text before"),
        pytest.param(PUBLIC_PEM + b"comment\n", "expected one", id="text behind"),
        pytest.param(b"\xef\xbb\xbf" + PUBLIC_PEM, "expected one", id="byte order mark"),
        pytest.param(PRIVATE_PEM, "got a private one", id="private key"),
        pytest.param(PUBLIC_PEM + PRIVATE_PEM, "got a private one", id="both halves"),
        pytest.param(PUBLIC_PEM.replace(b"MF", b"MG"), "P-256", id="not ASN.1"),
        pytest.param(
            public_pem(ec.generate_private_key(ec.SECP384R1())), "another kind", id="P-384"
        ),
        pytest.param(public_pem(rsa.generate_private_key(65537, 2048)), "another kind", id="RSA"),
        pytest.param(b"x" * (MAX_KEY_BYTES + 1), "expected at most", id="too large"),
    ],
)
def test_only_one_p256_public_key_is_taken(pem: bytes, got: str) -> None:
    with pytest.raises(MalformedError, match=got) as caught:
        read_public_key(pem, name="vendor.pub")
    assert str(caught.value).startswith("vendor.pub: ")
    assert b"PRIVATE" not in str(caught.value).encode()


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(PUBLIC_PEM, id="public key"),
        pytest.param(PRIVATE_PEM * 2, id="two keys"),
        pytest.param(b"", id="empty"),
        pytest.param(private_pem(ec.generate_private_key(ec.SECP384R1())), id="P-384"),
        pytest.param(private_pem(ed25519.Ed25519PrivateKey.generate()), id="Ed25519"),
        pytest.param(PRIVATE_PEM.replace(b"MIG", b"AAA"), id="not ASN.1"),
        pytest.param(b" " * (MAX_KEY_BYTES + 1), id="too large"),
    ],
)
def test_only_one_p256_private_key_is_taken(pem: bytes) -> None:
    with pytest.raises(MalformedError, match=r"^release\.key: "):
        read_private_key(pem, None, name="release.key")


def test_an_encrypted_key_opens_with_its_passphrase_only() -> None:
    pem, public = new_key_pair(b"right")
    assert needs_passphrase(pem)
    assert not needs_passphrase(PRIVATE_PEM)
    assert read_private_key(pem, b"right", name="k").public.pem == public
    for wrong in (b"wrong", b"", None):
        with pytest.raises(DeniedError, match="passphrase") as caught:
            read_private_key(pem, wrong, name="k")
        assert "wrong" not in str(caught.value)


def test_a_key_that_others_encrypted_opens_too() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw"))
    assert read_private_key(pem, b"pw", name="k").public.pem == public_pem(key)


@pytest.mark.parametrize("passphrase", [b"", b"x" * 1024])
def test_a_passphrase_that_no_tool_takes_is_refused(passphrase: bytes) -> None:
    with pytest.raises(MalformedError, match="expected 1 to 1023 bytes"):
        new_key_pair(passphrase)


def test_a_private_key_is_not_shown() -> None:
    assert repr(PRIVATE) == "PrivateKey()"


def test_key_pairs_differ() -> None:
    assert OTHER != PUBLIC
    assert len({PublicKey(PUBLIC_PEM), PUBLIC, OTHER}) == 2


ARN = "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("release.key", FileKey(Path("release.key"))),
        ("/keys/release.key", FileKey(Path("/keys/release.key"))),
        ("file:release.key", FileKey(Path("release.key"))),
        ("file:awskms:x", FileKey(Path("awskms:x"))),
        ("awskms:alias/release", KmsKey("alias/release")),
        (f"awskms:{ARN}", KmsKey(ARN)),
        ("hsm:", HsmKey(2, None)),
        ("hsm:17", HsmKey(17, None)),
        ("hsm:?label=YubiKey+PIV+%2315", HsmKey(2, "YubiKey PIV #15")),
        ("hsm:3?label=a%26b", HsmKey(3, "a&b")),
    ],
)
def test_a_key_has_one_kind_of_name(text: str, key: KeyUri) -> None:
    assert read_key_uri(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "awskms:",
        "awskms:///alias/x",
        "awskms:alias/x y",
        "awskms:-x",
        "awskms:" + "x" * 3000,
        "hsm:x",
        "hsm:-1",
        "hsm:0x2",
        "hsm:2?pin-value=SECRET",
        "hsm:2?label=a&pin-value=SECRET",
        "hsm:2?label=a&label=SECRET",
        "hsm:2?label=",
        "hsm:2?label",
        "pkcs11:token=a?pin-value=SECRET",
        "gcpkms:projects/SECRET",
    ],
)
def test_what_names_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        read_key_uri(text)
    assert "SECRET" not in str(caught.value)


def test_a_file_that_is_called_like_an_address_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vendor:release.key").write_bytes(PRIVATE_PEM)
    assert read_key_uri("vendor:release.key") == FileKey(Path("vendor:release.key"))


def test_an_arn_names_its_region() -> None:
    assert KmsKey(ARN).region == "us-gov-west-1"
    assert KmsKey("alias/arn").region is None


def test_the_extras_that_errors_name_exist() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    for extra, module in (("kms", "boto3"), ("hsm", "pkcs11")):
        assert extra in setup["options.extras_require"]
        code = (
            f"import sys; sys.modules[{module!r}] = None\n"
            "from bundler.signing.key_uri import HsmKey, KmsKey\n"
            "from bundler.signing.signers import open_signer\n"
            "from bundler.errors import ToolError\n"
            f"key = {{'kms': KmsKey('alias/x'), 'hsm': HsmKey(2, None)}}[{extra!r}]\n"
            "try: open_signer(key, secret=lambda _: b'')\n"
            "except ToolError as error: print(error.hint)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        name = setup["metadata"]["name"]
        assert done.stdout == f"pip install '{name}[{extra}]'\n", done.stderr
