"""Amazon ECR: a registry like any other, but for its login and for who makes its repositories.

boto3 is heavy: it loads only when ECR is opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import MalformedError
from bundler.reference import EcrHost, ecr_host
from bundler.stores.base import Repositories
from bundler.stores.ecr_request import NewRepository, read_policies
from bundler.stores.tls import client_context
from bundler.target import EcrTarget

if TYPE_CHECKING:
    from bundler.stores.login import Logins

__all__ = ["Ecr", "EcrHost", "ecr_host", "open_ecr"]


@dataclass(frozen=True, slots=True)
class Ecr:
    """What a registry of Amazon ECR needs beside what any registry needs.

    Attributes:
        logins: Asks AWS for a login, and again before its 12 hours are over.
        repositories: Those of the registry, below the path that was opened.
    """

    logins: Logins
    repositories: Repositories


def open_ecr(
    host: str,
    settings: EcrTarget | None,
    *,
    ca: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Ecr:
    """Open the API behind a registry with the credentials that boto3 finds; nothing is asked yet.

    Needs ``ecr:GetAuthorizationToken``, ``ecr:DescribeRepositories`` and, where repositories are
    to be made, ``ecr:CreateRepository`` and what the settings of the target take.

    Args:
        host: ``HOST[:PORT][/PATH]`` of the registry. The path begins the names of repositories.
        settings: The target's; None where it has none. Must name the region of a host that is not
            ECR's by its name.
        ca: PEM file with the authorities to trust instead of the system's.
        environment: Where ``AWS_ENDPOINT_URL_ECR`` is looked up; boto3 reads the process's own.

    Raises:
        BundleError: A policy, the CA or boto3's own configuration cannot be read, or the region is
            nowhere to be had.
    """
    settings = settings or EcrTarget()
    named = ecr_host(host)
    region = settings.region or (named.region if named else None)
    if region is None:
        raise MalformedError(f"{host}: its name has no region", hint="give registry.ecr.region")
    policies = read_policies(settings)
    client_context(ca=ca)  # boto3 tells of a bad one late, and not by its name
    from bundler.stores.ecr_client import EcrLogins, connect, place_of
    from bundler.stores.ecr_repositories import EcrRepositories

    # An endpoint that somebody names is taken as it is: botocore refuses it beside FIPS.
    custom = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR"} & environment.keys()
    fixed = settings.endpoint is not None or bool(custom)
    fips = not fixed and (settings.fips or (named is not None and named.fips))
    client = connect(
        endpoint=settings.endpoint,
        region=region,
        fips=fips,
        dual_stack=not fixed and named is not None and named.dual_stack,
        ca=ca,
    )
    registry, _, path = host.partition("/")
    place = place_of(client, registry)
    new = NewRepository(
        settings=settings,
        account=named.account if named else None,
        region=region,
        fips=fips,
        policies=policies,
    )
    return Ecr(EcrLogins(client, place), EcrRepositories(client, place, path=path, new=new))
