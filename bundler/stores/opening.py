"""From an address to the store behind it. The libraries are heavy: each loads only when opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import MalformedError, printable
from bundler.object_settings import ObjectSettings
from bundler.reference import S3Prefix, ecr_host
from bundler.remote_object import RemoteFolder
from bundler.stores.base import Note, ObjectStore, Registry, unnoted
from bundler.stores.login import GivenLogin, Logins
from bundler.stores.login_files import WrittenLogins
from bundler.stores.registry_url import Origin
from bundler.stores.retry import Patience, Timeouts
from bundler.stores.tls import client_context

if TYPE_CHECKING:
    from bundler.stores.upkeep import Upkeep

# The options and fields first: they are this command's own.
_OTHER_LOGIN = (
    "log in as somebody who may: --registry-user NAME, registry.authFile in the target, or "
    "{command}; for Amazon ECR under a name of its own: registry.ecr"
)
_GIVEN_LOGIN = (
    "check the password, as it came on standard input or from its file, and that this user may "
    "push there; for another login leave out --registry-user, and name registry.authFile in the "
    "target, or run {command}"
)
_OTHER_AWS_LOGIN = (
    "the AWS credentials decide: may they use ecr:BatchGetImage, BatchCheckLayerAvailability, "
    "InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload and PutImage there? For another "
    "login: --registry-user NAME, or registry.authFile in the target"
)


def open_bucket(
    bucket: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    ca: Path | None = None,
    objects: ObjectSettings | None = None,
    patience: Patience | None = None,
    timeouts: Timeouts | None = None,
    note: Note = unnoted,
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
        objects: What the objects are made with that we put there; None to leave it to the bucket.
        patience: How often and how long things are tried; None for what suits S3.
        timeouts: How long the server may do nothing; None for what suits S3.
        note: Told, in words, of a server that is waited for; any thread.
        environment: Where ``AWS_REGION`` is looked up; boto3 reads the process's own.

    Raises:
        BundleError: The CA or boto3's own configuration cannot be read.
    """
    if ca is not None:
        client_context(ca=ca)  # the library tells of a bad one late, and not by its name
    from bundler.stores.s3 import S3Store, connect

    region = region or environment.get("AWS_REGION")
    client = connect(
        endpoint=endpoint, region=region, ca=ca, patience=patience, timeouts=timeouts, note=note
    )
    return S3Store(bucket, client, settings=objects, patience=patience)


def open_upkeep(
    bucket: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    ca: Path | None = None,
    note: Note = unnoted,
    environment: Mapping[str, str] = os.environ,
) -> Upkeep:
    """Open a bucket to look after it; arguments and errors are those of ``open_bucket``."""
    if ca is not None:
        client_context(ca=ca)
    from bundler.stores.s3 import connect
    from bundler.stores.s3_upkeep import S3Upkeep

    region = region or environment.get("AWS_REGION")
    return S3Upkeep(bucket, connect(endpoint=endpoint, region=region, ca=ca, note=note))


def open_folder(
    where: S3Prefix,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    ca: Path | None = None,
    note: Note = unnoted,
    environment: Mapping[str, str] = os.environ,
) -> RemoteFolder:
    """List a prefix of a bucket to read from; arguments are those of ``open_bucket``.

    Raises:
        BundleError: As for ``open_bucket``; or the server refuses us or cannot be reached.
    """
    if ca is not None:
        client_context(ca=ca)
    from bundler.stores.s3 import connect
    from bundler.stores.s3_source import list_folder

    region = region or environment.get("AWS_REGION")
    return list_folder(connect(endpoint=endpoint, region=region, ca=ca, note=note), where)


def open_logins(
    host: str, *, authfile: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Logins:
    """Look up who we are to a registry, in the files that docker, podman and skopeo write.

    Args:
        host: ``HOST[:PORT][/PATH]``.
        authfile: The one file with logins; None for the places that docker and skopeo use.
        environment: Where those places are named.

    Raises:
        BundleError: A file cannot be read or is malformed, or a credential helper failed.
    """
    return WrittenLogins(host, authfile=authfile, environment=environment)


def open_registry(
    host: str,
    *,
    logins: Logins,
    plain_http: bool = False,
    ca: Path | None = None,
    client_certificate: Path | None = None,
    client_key: Path | None = None,
    token_server: str | None = None,
    environment: Mapping[str, str] = os.environ,
    patience: Patience | None = None,
    timeouts: Timeouts | None = None,
) -> Registry:
    """Open a registry; nothing is asked of it yet.

    Args:
        host: ``HOST[:PORT][/PATH]``.
        logins: Who we are to it.
        plain_http: Speak HTTP without TLS.
        ca: PEM file of the authorities that the registry's certificate may be of; None for the
            system's, or ``SSL_CERT_FILE``.
        client_certificate: PEM file of the certificate that we show; None for none.
        client_key: PEM file of its private key; None where it stands in the same file.
        token_server: Origin, beside the registry's own, that may be given our login.
        environment: Where ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` stand.
        patience: How often and how long things are tried; None for what suits registries.
        timeouts: How long it may do nothing; None for what suits registries.

    Raises:
        BundleError: A file cannot be read, or a variable is malformed.
    """
    from bundler.stores.registry import OciRegistry
    from bundler.stores.registry_auth import Authorization
    from bundler.stores.registry_client import Client
    from bundler.stores.registry_http import Http

    own = _origin(f"{'http' if plain_http else 'https'}://{host}")
    trusted = frozenset({own, _origin(token_server)} if token_server else {own})
    others = cache(partial(client_context, ca=ca))
    ours = others
    if client_certificate is not None:
        ours = cache(partial(client_context, ca=ca, certificate=client_certificate, key=client_key))
    if ca or client_certificate:
        ours()  # a bad file is told of before anything is asked
    http = Http(
        ours=ours,
        others=others,
        trusted=trusted,
        environment=environment,
        timeouts=timeouts or Timeouts(),
    )
    command = f"skopeo login {host.partition('/')[0]}"
    if isinstance(logins, WrittenLogins):
        command = logins.command
    if isinstance(logins, GivenLogin) and logins.current() is not None:
        advice = _GIVEN_LOGIN.format(command=command)
    else:
        advice = _OTHER_AWS_LOGIN if ecr_host(host) else _OTHER_LOGIN.format(command=command)
    authorization = Authorization(logins, trusted=trusted, http=http, advice=advice)
    client = Client(http, authorization, own, patience or Patience())
    return OciRegistry(host, client, plain_http=plain_http)


def _origin(url: str) -> Origin:
    try:
        return Origin.of(url)
    except ValueError as error:
        raise MalformedError(f"{printable(url)[:200]}: {printable(str(error))}") from error
