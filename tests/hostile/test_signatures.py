"""Groups 62 and 63: signature files, keys, and SHA256SUMS."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bundler.digest import Digest
from bundler.sums import SUMS_NAME
from tests.hostile.limited import Case, Place, require_clean, require_refused
from tests.hostile.releases import (
    ARCHIVE,
    KEY,
    OUR_SIGNATURE,
    PRIVATE_PEM,
    PUBLIC_PEM,
    Signed,
    signed,
)

# Source: SEC 2, section 2.4.2, secp256r1: the order of its group.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIGSTORE = f"{SUMS_NAME}.{KEY.public.key8}.sigstore.json"
Edit = Callable[[bytes], bytes]


def numbers(change: Callable[[int, int], tuple[int, int]]) -> Edit:
    """Change the two numbers of a signature."""
    return lambda der: encode_dss_signature(*change(*decode_dss_signature(der)))


def long_length(der: bytes) -> bytes:
    """Write the length of the sequence in two bytes, as BER may and DER may not."""
    return der[:1] + b"\x81" + der[1:]


def padded_number(der: bytes) -> bytes:
    """Put a zero before the first number that needs none."""
    length = der[3]
    first = bytes([2, length + 1, 0]) + der[4 : 4 + length]
    rest = der[4 + length :]
    return bytes([0x30, len(first) + len(rest)]) + first + rest


def negative(der: bytes) -> bytes:
    """Give a signature whose second number is below 0."""
    first = der[2 : 4 + der[3]]
    second = b"\x02\x20" + b"\xff" * 32
    return bytes([0x30, len(first) + len(second)]) + first + second


def huge(_: bytes) -> bytes:
    return bytes(100 << 20)


# Group, what it is, what becomes of a good signature, status, what is said.
SIGNATURES: list[tuple[int, str, Edit, int, str]] = [
    (62, "empty", lambda _: b"", 4, "got none that holds"),
    (62, "two in one file", lambda der: der + der, 4, "got none that holds"),
    (62, "bytes behind", lambda der: der + b"\0", 4, "got none that holds"),
    (62, "base64", base64.b64encode, 4, "got none that holds"),
    (62, "base64 for addresses", base64.urlsafe_b64encode, 4, "got none that holds"),
    (62, "white space around", lambda der: b" " + der + b"\n", 4, "got none that holds"),
    (62, "long form of a length", long_length, 4, "got none that holds"),
    (62, "number with a zero in front", padded_number, 4, "got none that holds"),
    (62, "r is 0", numbers(lambda _, s: (0, s)), 4, "got none that holds"),
    (62, "s is 0", numbers(lambda r, _: (r, 0)), 4, "got none that holds"),
    (62, "both are 0", numbers(lambda _, __: (0, 0)), 4, "got none that holds"),
    (62, "r beyond the order", numbers(lambda r, s: (r + ORDER, s)), 4, "got none that holds"),
    (62, "negative s", negative, 4, "got none that holds"),
    (62, "of another content", lambda _: KEY.sign(b"another"), 4, "got none that holds"),
    (62, "two KiB", lambda der: der + bytes(2 << 10), 3, "expected at most 1024 bytes"),
    (62, "100 MiB", huge, 3, "expected at most 1024 bytes"),
]


@pytest.mark.parametrize(
    ("group", "what", "edit", "status", "says"),
    SIGNATURES,
    ids=[f"{group}-{what}" for group, what, *_ in SIGNATURES],
)
def test_a_hostile_signature_is_refused(
    place: Place, good: Path, group: int, what: str, edit: Edit, status: int, says: str
) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        path = release.directory / OUR_SIGNATURE
        path.write_bytes(edit(path.read_bytes()))
        return release.arguments("verify")

    require_refused(Case(group, what, make, status, says), place)


def only_others(release: Signed) -> None:
    """Leave a Sigstore bundle alone, which other tools read and we never do."""
    der = (release.directory / OUR_SIGNATURE).read_bytes()
    (release.directory / OUR_SIGNATURE).unlink()
    (release.directory / SIGSTORE).write_bytes(base64.b64encode(der))


# What an attacker takes away or puts in its place, without the key.
RELEASES: list[tuple[int, str, Callable[[Signed], object], str]] = [
    (62, "no signature", lambda r: (r.directory / OUR_SIGNATURE).unlink(), "got no signature"),
    (62, "a Sigstore bundle alone", only_others, "got no signature"),
    (
        62,
        "a signature named as another key's",
        lambda r: (r.directory / OUR_SIGNATURE).write_bytes(b"x"),
        "got none that holds",
    ),
]


@pytest.mark.parametrize("command", ["verify", "extract", "plan", "publish"])
@pytest.mark.parametrize(
    ("group", "what", "change", "says"),
    RELEASES,
    ids=[f"{group}-{what}" for group, what, *_ in RELEASES],
)
def test_nothing_takes_the_place_of_a_signature(
    place: Place,
    good: Path,
    group: int,
    what: str,
    change: Callable[[Signed], object],
    says: str,
    command: str,
) -> None:
    """T8: whatever is stripped, no command goes on, and none reaches for a network."""

    def make(place: Place) -> list[str]:
        release = signed(place, good)
        change(release)
        target = place.input / "target.yaml"
        target.write_text(
            "formatVersion: 1\nregistry: {host: a.example}\ns3: {bucket: abc}\n"
            "kubernetes: {namespace: abc}\n"
        )
        more = {"extract": [str(place.out), "--only", ARCHIVE], "verify": []}
        return [*release.arguments(command), *more.get(command, ["--target", str(target)])]

    require_refused(Case(group, what, make, 4, says), place)


def p384() -> bytes:
    return public_pem(ec.generate_private_key(ec.SECP384R1()))


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def off_curve(pem: bytes) -> bytes:
    """Change a coordinate of a key's point."""
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    body = base64.b64encode(der)
    return b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n"


KEYS: list[tuple[int, str, Callable[[], bytes], str]] = [
    (62, "P-384 key", p384, "expected a P-256 public key"),
    (
        62,
        "RSA key of 1024 bits",
        lambda: public_pem(rsa.generate_private_key(65537, 1024)),
        "expected a P-256 public key",
    ),
    (62, "point not on the curve", lambda: off_curve(PUBLIC_PEM), "expected a P-256 public key"),
    (62, "two keys in one PEM", lambda: PUBLIC_PEM * 2, "expected one"),
    (62, "private key", lambda: PRIVATE_PEM, "got a private one"),
    (62, "byte order mark", lambda: b"\xef\xbb\xbf" + PUBLIC_PEM, "expected one"),
    (62, "no key", lambda: b"", "expected one"),
    (62, "key file of 100 MiB", lambda: bytes(100 << 20), "expected at most 16384 bytes"),
]


@pytest.mark.parametrize(
    ("group", "what", "pem", "says"), KEYS, ids=[f"{group}-{what}" for group, what, *_ in KEYS]
)
def test_a_hostile_key_is_refused(
    place: Place, good: Path, group: int, what: str, pem: Callable[[], bytes], says: str
) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.key_file.write_bytes(pem())
        return release.arguments("verify")

    require_refused(Case(group, what, make, 3, says), place)


def high_s(release: Signed) -> bytes:
    """Give the other signature that anybody can make of a good one."""
    der = (release.directory / OUR_SIGNATURE).read_bytes()
    return numbers(lambda r, s: (r, ORDER - s))(der)


def test_62_what_stands_beside_a_good_signature_is_neither_needed_nor_read(
    place: Place, good: Path
) -> None:
    """Key ids, payload types, hints and media types are fields of files that we never open."""
    release = signed(place, good)
    (release.directory / f"{SUMS_NAME}.00000000.sig").write_bytes(b"garbage")
    (release.directory / f"{SUMS_NAME}.highhigh.sig").write_bytes(high_s(release))
    with (release.directory / SIGSTORE).open("wb") as file:
        file.truncate(100 << 20)
    (release.directory / "provenance.00000000.sigstore.json").write_bytes(b'{"mediaType": 1}')
    release.key_file.write_bytes(PUBLIC_PEM.replace(b"\n", b"\r\n"))
    before = place.snapshot()
    done = place.run(*release.arguments("verify"))
    require_clean(done, place, before)
    assert done.status == 0, done.stderr


@pytest.mark.parametrize(
    ("what", "second", "status"),
    [
        ("the same key twice", PUBLIC_PEM, 3),
        ("the same key in other bytes", PUBLIC_PEM.replace(b"\n", b"\r\n"), 3),
        ("a key that did not sign", None, 4),
    ],
    ids=["same", "same in other bytes", "another"],
)
def test_62_one_key_never_counts_twice(
    place: Place, good: Path, what: str, second: bytes | None, status: int
) -> None:
    """Two keys are demanded; two signatures of one key are there, under any names."""

    def make(place: Place) -> list[str]:
        release = signed(place, good)
        (release.directory / f"{SUMS_NAME}.11111111.sig").write_bytes(high_s(release))
        other = place.input / "second.pub"
        key = public_pem(ec.generate_private_key(ec.SECP256R1()))
        other.write_bytes(key if second is None else second)
        return [*release.arguments("verify"), "--key", str(other), "--threshold", "2"]

    require_refused(Case(62, what, make, status, "2"), place)


HEX = Digest.of(b"").hex
SUMS: list[tuple[int, str, Callable[[str], str | bytes]]] = [
    (63, "escaped name", lambda text: f"\\{text}"),
    (63, "MD5 lines", lambda text: text + f"{HEX[:32]}  zz\n"),
    (63, "mark of binary files", lambda text: text.replace("  ", " *")),
    (63, "windows lines", lambda text: text.replace("\n", "\r\n")),
    (63, "path twice", lambda text: text + text.splitlines(True)[-1]),
    (63, "path twice in other case", lambda text: text + f"{HEX}  TINY_2026.10.TAR\n"),
    (63, "path to itself", lambda text: text.replace("  shard", f"  {SUMS_NAME}\n{HEX}  shard")),
    (63, "uppercase digits", lambda text: text.upper()),
    (63, "spaces behind", lambda text: text.replace("\n", "  \n")),
    (63, "climbing path", lambda text: f"{HEX}  ../evil\n{text}"),
    (63, "absolute path", lambda text: f"{HEX}  /etc/evil\n{text}"),
    (63, "path that moves the cursor", lambda text: f"{text}{HEX}  z\x1b[2J\u202e\n"),
    (63, "no line", lambda _: ""),
    (63, "no text", lambda _: b"\xff" * 100),
    (63, "two MiB", lambda text: text * (2 << 10) * 4),
]


@pytest.mark.parametrize(
    ("group", "what", "change"), SUMS, ids=[f"{group}-{what}" for group, what, _ in SUMS]
)
def test_hostile_sums_are_refused_though_they_are_signed(
    place: Place, good: Path, group: int, what: str, change: Callable[[str], str | bytes]
) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.sign_sums(change)
        return release.arguments("verify")

    status = 5 if "itself" in what else 3
    require_refused(Case(group, what, make, status, SUMS_NAME), place)
