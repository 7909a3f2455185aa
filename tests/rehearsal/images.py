"""Small images made without any tool: busybox, from Debian's static program."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal import programs

_BUSYBOX = "bin/busybox"
_PASSWD = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65532:65532:nobody:/:/bin/sh\n"
_PREFIX = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class _Blob:
    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


def write_busybox(layout: Path, *, command: Sequence[str], name: str) -> str:
    """Write an OCI layout with one image of busybox's programs.

    Args:
        layout: New directory.
        command: What a container of it runs by default.
        name: Full reference, for ``ctr images import``; its tag names the image in the layout.

    Returns:
        The digest of its manifest.
    """
    plain = _file_system()
    layer = _Blob(gzip.compress(plain, 1, mtime=0), f"{_PREFIX}.layer.v1.tar+gzip")
    config = _Blob(_config(plain, command), f"{_PREFIX}.config.v1+json")
    manifest = _Blob(_manifest(config, layer), f"{_PREFIX}.manifest.v1+json")
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (layer, config, manifest):
        (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.content)
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [manifest.descriptor() | {"annotations": annotations}],
    }
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return manifest.digest


def write_archive(layout: Path, archive: Path) -> None:
    """Write an OCI layout as the tar that container engines import."""
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname="")


def _manifest(config: _Blob, layer: _Blob) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": f"{_PREFIX}.manifest.v1+json",
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    return json.dumps(document).encode()


def _config(plain_layer: bytes, command: Sequence[str]) -> bytes:
    document = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(plain_layer).hexdigest()}"],
        },
    }
    return json.dumps(document).encode()


def _architecture() -> str:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = os.uname().machine
    return names.get(machine, machine)


def _file_system() -> bytes:
    program = Path(programs.find("busybox"))
    listing = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add_file(tar, _BUSYBOX, program.read_bytes(), mode=0o755)
        _add_file(tar, "etc/passwd", _PASSWD, mode=0o644)
        for applet in sorted(set(listing.stdout.split()) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(content)
    tar.addfile(entry, io.BytesIO(content))
