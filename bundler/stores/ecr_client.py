"""The API of Amazon ECR, spoken by boto3, and the logins that it gives."""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from bundler.errors import (
    MalformedError,
    WorldError,
)
from bundler.stores.ecr_errors import Place, told
from bundler.stores.login import Login, source_text

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient
    from types_boto3_ecr.type_defs import AuthorizationDataTypeDef

_ATTEMPTS = 5
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
# How long before its end a login is replaced, and how long that is left alone where it fails.
_MARGIN_SECONDS, _PAUSE_SECONDS = 30 * 60, 60


def connect(
    *, endpoint: str | None, region: str, fips: bool, dual_stack: bool, ca: Path | None
) -> ECRClient:
    """Make a client with the credentials and settings that boto3 finds in its usual places.

    Raises:
        WorldError: boto3's configuration names a profile that is not there, or cannot be read.
        MalformedError: ``endpoint`` is not a URL.
    """
    config = Config(
        use_fips_endpoint=True if fips else None,
        use_dualstack_endpoint=True if dual_stack else None,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
    )
    verify = None if ca is None else str(ca)
    try:
        with told(Place("Amazon ECR", endpoint or "")):
            session = boto3.session.Session(region_name=region)
            return session.client("ecr", endpoint_url=endpoint, verify=verify, config=config)
    except ValueError as error:
        raise MalformedError(f"{endpoint}: not the URL of Amazon ECR's API") from error


def place_of(client: ECRClient, registry: str) -> Place:
    """Give what errors call a registry; what a URL carries of a login is left out."""
    parts = urlsplit(client.meta.endpoint_url)
    return Place(registry, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


class EcrLogins:
    """Logins of ECR: each is good for every repository that the caller may use, for 12 hours.

    Any number of threads may use it at once.
    """

    def __init__(
        self, client: ECRClient, place: Place, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._place = place.at("", "ecr:GetAuthorizationToken")
        self._clock = clock
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._renewal = self._end = -math.inf
        self._asked = 0

    @property
    def source(self) -> str:
        """Say that Amazon ECR itself gave it, and by which of its servers."""
        where = f"from GetAuthorizationToken of {self._place.server}"
        return source_text(self._login, where)

    def current(self) -> Login:
        """Give the login, a new one half an hour before the old one ends.

        Raises:
            DeniedError, WorldError: AWS gives none, and the old one has ended.
        """
        with self._lock:
            now = self._clock()
            if self._login is None or now >= self._end:
                return self._keep(self._ask())
            if now < self._renewal:
                return self._login
            old, self._renewal = self._login, now + _PAUSE_SECONDS
        with contextlib.suppress(WorldError):  # said when the old one ends, which others go on with
            found = self._ask()
            with self._lock:
                return self._keep(found)
        return old

    def renew(self) -> Login:
        """Ask for a new login since the registry refuses this one.

        Threads that find this out at the same time get one and the same.

        Raises:
            DeniedError, WorldError: AWS gives none.
        """
        seen = self._asked
        with self._lock:
            if self._login is None or self._asked == seen:
                return self._keep(self._ask())
            return self._login

    def _ask(self) -> AuthorizationDataTypeDef:
        with told(self._place):
            found = self._client.get_authorization_token().get("authorizationData")
        if not found:
            raise WorldError(f"{self._place}: Amazon ECR gave no login", hint="run again")
        return found[0]

    def _keep(self, given: AuthorizationDataTypeDef) -> Login:
        self._login = self._read(given.get("authorizationToken", ""))
        self._set_end(given.get("expiresAt"))
        self._asked += 1
        return self._login

    def _read(self, token: str) -> Login:
        try:
            user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = colon = password = ""
        if not colon:
            raise WorldError(f"{self._place}: the login that Amazon ECR gave is malformed")
        return Login(user, password)

    def _set_end(self, end: datetime | None) -> None:
        """Know when to ask again; where clocks disagree, only once the registry refuses it."""
        now = self._clock()
        left = end.timestamp() - now if end is not None else 0
        self._end = now + left if left > 0 else math.inf
        self._renewal = now + max(left - _MARGIN_SECONDS, left / 2) if left > 0 else math.inf
