"""Where fuzzing starts: small inputs that our own writers made, the same ones at any time."""

from __future__ import annotations

import gzip
import io
import sqlite3
import struct
import tarfile
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bundler.archive.stored_gzip import StoredGzipWriter
from bundler.archive.zstd_frames import pack
from bundler.archive.zstd_volume import encode_header, encode_index
from bundler.digest import Digest
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from bundler.publish.pointer import Deployed, Pointer, encode_pointer
from bundler.signing.keys import PublicKey, read_public_key
from bundler.signing.quorum import Quorum
from bundler.signing.sigstore_bundle import attestation_bundle, message_bundle
from bundler.signing.tuf_roots import read_root, write_root
from tests.layouts import plain_layer
from tests.rpm_database import EPOCH, NAME, RELEASE, VERSION, rpm_header
from tests.small_release import DATA
from tests.tars import tar_of

PART = b"\n---\n"
SPEC = Path(__file__).parents[2].joinpath("manifests/demo.yaml").read_bytes()
OBJECTS = b"kind: A\nmetadata: &m {name: x}\n---\nkind: B\n<<: {a: 2020-01-01}\n"
VOLUME = b"a" * 300 + bytes(range(256))
DPKG = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nSource: glibc (2.36)\n\n"
APK = b"P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\n\n"
PYTHON = b"Metadata-Version: 2.1\nName: idna\nVersion: 3.7\nClassifier: License :: MIT\n  b\n\nc"
SYSTEM = b'ID=debian\nVERSION_ID="12"\n'
TARGET = b"""formatVersion: 1
registry: {host: 'registry.local:5000/a', plainHttp: true, authFile: a.json}
s3: {bucket: models, prefix: llm, endpoint: 'http://127.0.0.1:9000', region: eu-west-1}
kubernetes: {namespace: models, timeoutSeconds: 60}
models: {tiny: {gpus: 2, modelName: Tiny}}
values: {a: {b: [1]}}
"""
WEIGHTS_INDEX = b'{"metadata": {"total_size": 16}, "weight_map": {"t": "a.safetensors"}}'
JSON = b'{"a": [1, -2, true, null, "\\u00e9"]}'
RPM = rpm_header({NAME: "bash", VERSION: "5.1.8", RELEASE: "9.el9", EPOCH: 1})
_FILES = {"a/config.json": b"{}\n", "a/b/" + "n" * 120: b"x" * 600, "a/b/w\u00f6rter": b""}
_CHART = {
    "demo/Chart.yaml": b"apiVersion: v2\nname: demo\nversion: 1.0.0\nannotations: {a: b}\n",
    "demo/values.schema.json": b'{"$schema": "https://json-schema.org/draft-07/schema#"}',
    "demo/templates/a.yaml": b"kind: Service\n",
}


def _key(number: int) -> tuple[ec.EllipticCurvePrivateKey, PublicKey]:
    private = ec.derive_private_key(number, ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, form)
    return private, read_public_key(pem, name="seed")


_PRIVATE, PUBLIC = _key(1)
_OTHER = _key(2)[1]


def _sign(content: bytes) -> bytes:
    return _PRIVATE.sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))


def stated(name: str) -> bytes:
    """Give a file of the release in ``tests/data``."""
    return (DATA / "format-1" / "tiny-inference-2026.11.0" / name).read_bytes()


def signature() -> bytes:
    return _sign(b"content")


def message() -> bytes:
    return message_bundle(PUBLIC, Digest.of(b"content"), signature())


def attestation() -> bytes:
    return attestation_bundle(PUBLIC, b'{"_type": "caf\xc3\xa9"}', _sign)


def roots() -> list[bytes]:
    written = write_root(
        1, Quorum.of([PUBLIC, _OTHER], 2, name="seed"), expires="2090-01-01T00:00:00Z"
    )
    root = read_root(written, name="seed")
    return [written, root.with_signature(root.ids_of(PUBLIC), _sign(root.signed_bytes))]


def images() -> list[bytes]:
    """Give index.json and what it leads to, also by way of another index.

    ``parsers.resolve_parts`` puts digests and sizes in the place of ``$1`` and ``#1``.
    """
    blobs = _manifest(2, 3), _CONFIG % b"$3", b"layer"
    deeper = _manifest(3, 4), _CONFIG % b"$4", b"layer"
    run_by = b', "platform": {"os": "linux", "architecture": "amd64"}'
    leaf = _index(OCI_MANIFEST, 1, run_by)
    return [
        PART.join((leaf, *blobs)),
        PART.join((_index(OCI_INDEX, 1), _index(OCI_MANIFEST, 2, run_by), *deeper)),
    ]


_CONFIG = b'{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["%s"]}}'


def _entry(media_type: str, part: int, more: bytes = b"") -> bytes:
    form = b'{"mediaType": "%s", "digest": "$%d", "size": #%d%s}'
    return form % (media_type.encode(), part, part, more)


def _index(media_type: str, part: int, more: bytes = b"") -> bytes:
    form = b'{"schemaVersion": 2, "mediaType": "%s", "manifests": [%s]}'
    return form % (OCI_INDEX.encode(), _entry(media_type, part, more))


def _manifest(config: int, layer: int) -> bytes:
    form = b'{"schemaVersion": 2, "mediaType": "%s", "config": %s, "layers": [%s]}'
    layers = _entry("application/vnd.oci.image.layer.v1.tar", layer)
    return form % (OCI_MANIFEST.encode(), _entry(OCI_CONFIG, config), layers)


def tars() -> list[bytes]:
    return [tar_of(_FILES, executable={"a/config.json"}), tar_of({"a": b""})]


def foreign_tars() -> list[bytes]:
    """Give tars of ours, and of others: with long names in both of their ways, and links."""
    found = [*tars(), plain_layer(_FILES)]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": "a"}) as made:
            for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.REGTYPE):
                member = tarfile.TarInfo("n" * 110 + kind.decode())
                member.type = kind
                member.linkname = "l" * 110 if kind in {tarfile.LNKTYPE, tarfile.SYMTYPE} else ""
                member.pax_headers = {"size": "0"} if kind == tarfile.REGTYPE else {}
                made.addfile(member)
        found.append(out.getvalue())
    return found


def layers() -> list[bytes]:
    plain = plain_layer(
        {
            "var/lib/dpkg/status": DPKG,
            "lib/apk/db/installed": APK,
            "a.dist-info/METADATA": PYTHON,
            "etc/.wh.os-release": b"",
            "usr/lib/os-release": SYSTEM,
        }
    )
    return [plain, gzip.compress(plain, mtime=0), b"".join(pack([memoryview(plain)], len(plain)))]


def chart() -> bytes:
    """Give a chart's archive, not compressed."""
    return plain_layer(_CHART)


def rpm_rows(*headers: bytes) -> bytes:
    """Give a database of rpm with these rows."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(one,) for one in headers])
        database.commit()
        return database.serialize()


def stored() -> list[bytes]:
    """Give gzip in blocks of 8 bytes."""
    found = []
    for content in (b"", b"8 bytes.", b"some content of three blocks"):
        out = bytearray()
        writer = StoredGzipWriter(out.extend, 8)
        writer.write(content)
        writer.close()
        found.append(bytes(out))
    return found


def volume() -> bytes:
    """Give the only volume of an archive, of two frames."""
    plain = [VOLUME[:300], VOLUME[300:]]
    frames = [b"".join(pack([memoryview(one)], len(one))) for one in plain]
    sizes = [(len(frame), len(one)) for frame, one in zip(frames, plain, strict=True)]
    return encode_header(1, 0, Digest.of(VOLUME)) + b"".join(frames) + encode_index(sizes)


def pointers() -> list[bytes]:
    deployed = Deployed(release="demo-1.0.0", manifest=Digest.of(b""), sequence=3)
    known = Pointer(deployed=deployed, highest=4, trust_version=1)
    return [encode_pointer(known), encode_pointer(Pointer(deployed=None, highest=1))]


def weights() -> bytes:
    """Give a safetensors file of one tensor."""
    tensor = b'{"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}'
    head = b'{"__metadata__": {"a": "b"}, "t": %s}' % tensor
    return struct.pack("<Q", len(head)) + head + bytes(16)
