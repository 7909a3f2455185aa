"""MinIO on loopback: the S3 server that tells most of what it keeps, and encrypts when asked."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from tests.rehearsal import go_build
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.go_programs import MINIO

KMS_KEY = "rehearsal"  # objects are encrypted only where a request names it
_KEY_BYTES = 32


def minio_daemon(
    state: Path, address: str, *, access_key: str, secret_key: str, pair: tuple[Path, Path] | None
) -> Daemon:
    """Configure an empty server of one drive.

    Args:
        state: Private directory for objects and configuration.
        address: ``HOST:PORT`` where it listens.
        access_key, secret_key: The one identity.
        pair: Files of certificate and key; None without TLS.

    Raises:
        RehearsalError: It is not compiled.
    """
    data, certificates = state / "minio", state / "minio-certificates"
    for directory in (data, certificates):
        directory.mkdir()
    if pair is not None:
        for name, file in zip(("public.crt", "private.key"), pair, strict=True):
            (certificates / name).symlink_to(file)
    argv = [str(go_build.find(MINIO)), "server", "--quiet", "--address", address]
    argv += ["--certs-dir", str(certificates), str(data)]
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    return Daemon(
        name="minio",
        argv=argv,
        ready=f"tcp://{address}" if pair else f"http://{address}/minio/health/ready",
        environment={
            "MINIO_ROOT_USER": access_key,
            "MINIO_ROOT_PASSWORD": secret_key,
            "MINIO_KMS_SECRET_KEY": f"{KMS_KEY}:{key}",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
    )
