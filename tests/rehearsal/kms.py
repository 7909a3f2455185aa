"""A small AWS KMS: GetPublicKey and Sign of keys on elliptic curves, and the ways they fail.

KMS itself cannot be had, and moto's hashes a digest once more, so that nobody's verifier takes its
signatures. Actions, fields, limits and errors are those of the AWS KMS API reference: GetPublicKey,
Sign and "Common errors"; the wire is "AWS JSON 1.1". Who calls is believed: only that a request is
signed, and for which region, is looked at.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.rehearsal.serving import LOOPBACK, in_thread

ACCOUNT = "111122223333"
_SPECS = {
    "ECC_NIST_P256": ["ECDSA_SHA_256"],
    "ECC_NIST_P384": ["ECDSA_SHA_384"],
    "ECC_SECG_P256K1": ["ECDSA_SHA_256"],
    "RSA_2048": ["RSASSA_PSS_SHA_256", "RSASSA_PKCS1_V1_5_SHA_256"],
}
_CURVES: dict[str, ec.EllipticCurve] = {
    "ECC_NIST_P256": ec.SECP256R1(),
    "ECC_NIST_P384": ec.SECP384R1(),
    "ECC_SECG_P256K1": ec.SECP256K1(),
}
_DIGEST_BYTES = 32
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/kms/aws4_request")
_ALIAS = re.compile(r"(?:.*:)?(?:key/)?")
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class _RefusedError(Exception):
    """An error code, and a message, that a caller gets."""


@dataclass(slots=True)
class Kms:
    """The keys, what was asked, and what is to be refused.

    Attributes:
        url: Where it listens.
        requests: Action, region and body of each call.
        refuse: Error codes by action: each call takes the first; the last one stays.
        wrong: Answer Sign with a signature of something else.
        garbage: Answer everything with this.
    """

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse: dict[str, list[str]] = field(default_factory=dict)
    wrong: bool = False
    garbage: bytes = b""
    _keys: dict[str, tuple[str, _PrivateKey]] = field(default_factory=dict)

    def add(self, name: str, spec: str = "ECC_NIST_P256") -> None:
        """Make a key that is known by an id, or by an alias as ``alias/NAME``."""
        curve = _CURVES.get(spec)
        made = rsa.generate_private_key(65537, 2048) if curve is None else None
        self._keys[name] = spec, made or ec.generate_private_key(curve or ec.SECP256R1())

    @property
    def actions(self) -> list[str]:
        """What was asked, in order."""
        return [action for action, _, _ in self.requests]

    def answer(self, action: str, region: str, asked: dict[str, str]) -> dict[str, object]:
        """Answer a call of the API."""
        self.requests.append((action, region, asked))
        if codes := self.refuse.get(action):
            code = codes.pop(0) if len(codes) > 1 else codes[0]
            if code:
                raise _RefusedError(code, f"{code} for {action} of {asked['KeyId']}")
        name = _ALIAS.sub("", asked["KeyId"], count=1)
        if name not in self._keys:
            raise _RefusedError("NotFoundException", f"Key '{name}' does not exist")
        spec, key = self._keys[name]
        arn = f"arn:aws:kms:{region}:{ACCOUNT}:key/{name}"
        if action == "GetPublicKey":
            return {"KeyId": arn, **_described(spec, key)}
        return {"KeyId": arn, "Signature": self._sign(spec, key, asked), **_algorithm(asked)}

    def _sign(self, spec: str, key: _PrivateKey, asked: dict[str, str]) -> str:
        if asked["SigningAlgorithm"] not in _SPECS[spec]:
            raise _RefusedError("InvalidKeyUsageException", "Algorithm is of another key spec.")
        digest = base64.b64decode(asked["Message"], validate=True)
        if asked.get("MessageType") != "DIGEST" or len(digest) != _DIGEST_BYTES:
            raise _RefusedError("ValidationException", "Digest is invalid length for algorithm.")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signed = bytes(_DIGEST_BYTES) if self.wrong else digest
        return _text(key.sign(signed, ec.ECDSA(utils.Prehashed(SHA256()))))


def _described(spec: str, key: _PrivateKey) -> dict[str, object]:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "PublicKey": _text(der),
        "KeySpec": spec,
        "CustomerMasterKeySpec": spec,
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": _SPECS[spec],
    }


def _algorithm(asked: dict[str, str]) -> dict[str, str]:
    return {"SigningAlgorithm": asked["SigningAlgorithm"]}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@contextlib.contextmanager
def fake_kms() -> Iterator[Kms]:
    """Run it on a free port of loopback while the block lasts."""
    server = _Server((LOOPBACK, 0), _Handler)
    server.kms = Kms(f"http://{LOOPBACK}:{server.server_address[1]}")
    with in_thread(server):
        yield server.kms


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    kms: Kms


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer one call."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        action = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        try:
            if scope is None:
                raise _RefusedError("MissingAuthenticationToken", "Request is not signed.")
            status, answer = 200, self.server.kms.answer(action, scope[1], body)
        except _RefusedError as error:
            code, message = error.args
            status, answer = 400, {"__type": code, "message": message}
        content = self.server.kms.garbage or json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
