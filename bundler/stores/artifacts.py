"""What registries hold about an image beside the image itself: asked for, and read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bundler.digest import Digest
from bundler.stores.base import StoredManifest
from bundler.stores.login_files import find_login

# Source: what skopeo, docker and podman call Docker's own registry, and where its API is.
_DOCKER_HUB, _DOCKER_HUB_API = "docker.io", "registry-1.docker.io"
_DOCKER_HUB_LOGIN, _DOCKER_HUB_TOKENS = "index.docker.io", "auth.docker.io"


class Artifacts(Protocol):
    """One repository, read.

    All methods raise DeniedError where the registry refuses us, and WorldError where it cannot be
    reached or fails.
    """

    @property
    def name(self) -> str:
        """The repository, ``HOST[:PORT]/PATH``."""

    def manifest(self, reference: str) -> StoredManifest | None:
        """Read what a tag or digest names; None where there is no such thing.

        Raises:
            ContentError: It is not what the digest names.
            MalformedError: It is larger than any manifest may be.
        """

    def referrers(self, subject: Digest) -> tuple[Digest, ...]:
        """Give the manifests that say that they are about a manifest, sorted.

        Empty where there are none, and where the registry cannot be asked.

        Raises:
            MalformedError: The answer is not what it should be.
        """

    def fetch(self, digest: Digest, size: int, out: Path) -> None:
        """Write a blob to a new file.

        Raises:
            NotFoundError: It is not there.
            ContentError: It has another size or digest.
        """


OpenArtifacts = Callable[[str, bool], AbstractContextManager[Artifacts]]


@contextlib.contextmanager
def open_artifacts(
    repository: str, plain_http: bool, *, environment: Mapping[str, str] = os.environ
) -> Iterator[Artifacts]:
    """Open a repository with the login, authorities and certificates that skopeo would take.

    Args:
        repository: ``HOST[:PORT]/PATH``.
        plain_http: It may be spoken to without verified TLS, or without TLS.
        environment: Where the places of logins are named.

    Raises:
        BundleError: A file with logins or certificates cannot be read.
    """
    from bundler.stores.certificates import registry_context
    from bundler.stores.oras_client import OrasClient
    from bundler.stores.referrers import Repository

    host, _, path = repository.partition("/")
    on_hub = host == _DOCKER_HUB
    login = find_login(repository, authfile=None, environment=environment)
    if login is None and on_hub:
        login = find_login(_DOCKER_HUB_LOGIN, authfile=None, environment=environment)
    client = OrasClient(
        host=_DOCKER_HUB_API if on_hub else host,
        path=path if "/" in path or not on_hub else f"library/{path}",
        login=login,
        token_host=_DOCKER_HUB_TOKENS if on_hub else None,
        context=None if plain_http else registry_context(host, environment=environment),
    )
    with contextlib.closing(client):
        yield Repository(client, repository)
