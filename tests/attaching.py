"""Attaches signatures and SBOMs to images in a registry, as signers do: over plain HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from bundler.digest import Digest
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

Json = dict[str, object]
EMPTY = "application/vnd.oci.empty.v1+json"
SBOM = "application/spdx+json"
# The config of an image that runs.
RUNNING: Json = {
    "os": "linux",
    "architecture": "amd64",
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{0:064x}"]},
}
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


class Attacher:
    """Writes to one repository of a registry on loopback."""

    def __init__(self, address: str, name: str) -> None:
        self._url = f"http://{address}/v2/{name}"

    def cosign(self, subject: Digest, suffix: str = ".sig", text: str = "signed") -> Digest:
        """Put an image such as cosign makes under its tag for a manifest."""
        layer = self._blob(json.dumps({"critical": text}).encode(), SIGNATURE)
        config = {
            "architecture": "",
            "created": "0001-01-01T00:00:00Z",
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "config": {},
        }
        content = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [{**layer, "annotations": {"dev.cosignproject.cosign/signature": "MEUC"}}],
        }
        return self.put(content, OCI_MANIFEST, f"sha256-{subject.hex}{suffix}")

    def referrer(
        self,
        subject: Digest,
        text: str,
        kind: str = SBOM,
        *,
        config: Json | None = None,
        about: tuple[str, int] = (OCI_MANIFEST, 1234),
    ) -> Digest:
        """Put a manifest that names its subject, ``about`` with its media type and size.

        With a config it is an image.
        """
        content = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": self._blob(
                json.dumps(config or {}).encode(), OCI_CONFIG if config else EMPTY
            ),
            "layers": [self._blob(text.encode(), kind)],
            "subject": {"mediaType": about[0], "digest": str(subject), "size": about[1]},
            "annotations": {"org.example.text": text},
        }
        return self.put(content, OCI_MANIFEST)

    def index(self, subject: Digest, *referrers: Digest) -> Digest:
        """Keep the index of referrers that clients keep where a registry has no API for it."""
        manifests = [
            {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 1, "artifactType": SBOM}
            for digest in referrers
        ]
        content = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self.put(content, OCI_INDEX, f"sha256-{subject.hex}")

    def put(self, content: Json, media_type: str, reference: str | None = None) -> Digest:
        """Put a manifest under a tag, or its own digest."""
        data = json.dumps(content).encode()
        digest = Digest.of(data)
        self._send("PUT", f"{self._url}/manifests/{reference or digest}", data, media_type)
        return digest

    def delete(self, digest: Digest) -> None:
        """Take a manifest away, whatever names it."""
        self._send("DELETE", f"{self._url}/manifests/{digest}", b"", None)

    def delete_blob(self, digest: Digest) -> None:
        """Take a blob away, whatever names it."""
        self._send("DELETE", f"{self._url}/blobs/{digest}", b"", None)

    def referrers(self, subject: Digest) -> list[str]:
        """Ask the registry what is about a manifest."""
        with urllib.request.urlopen(f"{self._url}/referrers/{subject}") as answer:
            return sorted(item["digest"] for item in json.load(answer)["manifests"])

    def _blob(self, content: bytes, media_type: str) -> Json:
        digest = Digest.of(content)
        headers = self._send("POST", f"{self._url}/blobs/uploads/", b"", None)
        place = headers["Location"]
        if place.startswith("/"):
            place = self._url.partition("/v2/")[0] + place
        more = f"{'&' if '?' in place else '?'}digest={digest}"
        self._send("PUT", place + more, content, "application/octet-stream")
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    @staticmethod
    def _send(method: str, url: str, data: bytes, media_type: str | None) -> Mapping[str, str]:
        headers = {"Content-Type": media_type} if media_type else {}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return dict(answer.headers)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {url}: {error.read().decode()}") from error
