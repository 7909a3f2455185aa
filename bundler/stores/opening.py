"""From an address to the store behind it. The libraries are heavy: each loads only when opened."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from bundler.digest import Digest
from bundler.errors import MalformedError, NotFoundError
from bundler.stores.base import ObjectStore, Registry


def open_bucket(
    bucket: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    ca: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ObjectStore:
    """Open a bucket with the credentials that boto3 finds; nothing is asked of the server yet.

    Args:
        bucket: Its name; it must exist.
        endpoint: URL of a server that speaks the S3 protocol; None for AWS, or what
            ``AWS_ENDPOINT_URL_S3`` or the AWS profile names.
        region: The bucket's region; None for what ``AWS_REGION``, which boto3 passes over, or
            ``AWS_DEFAULT_REGION`` or the profile names.
        ca: PEM file of the authority that the server's certificate is of; None for the usual
            ones, and ``AWS_CA_BUNDLE``.
        environment: Where ``AWS_REGION`` is looked up; boto3 reads the process's own.

    Raises:
        BundleError: The CA or boto3's own configuration cannot be read.
    """
    _check_ca(ca)
    from bundler.stores.s3 import S3Store, connect

    region = region or environment.get("AWS_REGION")
    return S3Store(bucket, connect(endpoint=endpoint, region=region, ca=ca))


def open_registry(
    host: str,
    *,
    push: Callable[[Path, str], Digest],
    plain_http: bool = False,
    ca: Path | None = None,
    authfile: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Registry:
    """Open a registry with the login that is written down for it; nothing is asked of it yet.

    Args:
        host: ``HOST[:PORT][/PATH]``.
        push: Copies an OCI archive to ``HOST[:PORT][/PATH]/NAME:TAG``; gives the digest there.
        plain_http: Speak HTTP without TLS.
        ca: PEM file of the authority that the registry's certificate is of; None for the usual
            ones, and ``REQUESTS_CA_BUNDLE``.
        authfile: The one file with logins; None for the places that docker and skopeo use.
        environment: Where those places are named.

    Raises:
        BundleError: The CA or a file with logins cannot be read.
    """
    _check_ca(ca)
    from bundler.stores.login import find_login
    from bundler.stores.registry import OciRegistry

    login = find_login(host, authfile=authfile, environment=environment)
    return OciRegistry(
        host, push=push, plain_http=plain_http, ca=ca, login=login, authfile=authfile
    )


def _check_ca(ca: Path | None) -> None:
    """Read a CA once: the client libraries tell of a bad one late, and not by its name."""
    if ca is None:
        return
    try:
        ssl.create_default_context(cafile=str(ca))
    except FileNotFoundError as error:
        raise NotFoundError(f"{ca}: no such file", hint="correct the path of the CA") from error
    except (ssl.SSLError, OSError) as error:
        raise MalformedError(f"{ca}: expected certificates in PEM form") from error
