"""Where images go: the only place that uses oras.

oras asks a registry and answers its challenges; the errors, the budget of retries, the choice of a
login and the judgement of digests are ours. Blobs do not pass through here.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from oras import provider
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from bundler.digest import Digest
from bundler.errors import ContentError, DeniedError, WorldError, printable
from bundler.reference import ImageTag
from bundler.stores.login import Login
from bundler.stores.tls import OTHER_HOST_HINT, is_of_another_host

Push = Callable[[Path, str], Digest]

# Source: OCI image specification v1.1, media-types.md; Docker image manifest v2, schema 2.
_MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# Source: OCI distribution specification v1.1, "Pushing manifests": registries take 4 MiB.
_MAX_MANIFEST_BYTES = 4 << 20
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two reads
_RETRY = Retry(
    total=3,
    connect=2,
    read=1,
    other=0,  # TLS: a second try sees the same certificate
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    retry_after_max=30,
    raise_on_status=False,
)
_REALM = re.compile(r'realm="([^"]*)"')
# oras has its own handler, which would write to standard error; we raise what went wrong.
logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
# As oras wraps it, it sleeps for two minutes over a registry that cannot be reached.
_do_request = inspect.unwrap(provider.Registry.do_request)


@dataclass(frozen=True, slots=True)
class _Found:
    announced: Digest | None
    content: bytes


class OciRegistry:
    """One host and path below it that images go to; a ``Registry``.

    Each question opens its own session: oras keeps a token for whatever it asks next, also where
    the token is good for another repository only.
    """

    def __init__(
        self,
        host: str,
        *,
        push: Push,
        plain_http: bool = False,
        ca: Path | None = None,
        login: Login | None = None,
        authfile: Path | None = None,
    ) -> None:
        """Remember where the registry is; nothing is asked yet.

        Args:
            host: ``HOST[:PORT][/PATH]``.
            push: Copies an OCI archive to ``HOST/NAME:TAG`` and gives the digest of what it sent.
            plain_http: Speak HTTP without TLS.
            ca: PEM file of the authority that the certificate is of; None for the usual ones.
            login: User and password; None for nobody in particular.
            authfile: The one file where logins were looked up; None for the usual places.
        """
        self._host = host
        self._push = push
        self._plain_http = plain_http
        self._verify = True if ca is None else str(ca)
        self._login = login
        self._authfile = authfile

    def digest(self, image: ImageTag) -> Digest | None:
        """Give the digest of what a tag names now; None where there is no such tag."""
        found = self._ask("HEAD", image)
        if found is not None and found.announced is not None:
            return found.announced
        found = found and self._ask("GET", image)
        if found is None:
            return None
        if len(found.content) > _MAX_MANIFEST_BYTES:
            raise WorldError(f"{self._host}/{image}: manifest of over {_MAX_MANIFEST_BYTES} bytes")
        computed = Digest.of(found.content)
        if found.announced not in {None, computed}:
            raise ContentError(
                f"{self._host}/{image}: the registry announces {found.announced} "
                f"and sends {computed}"
            )
        return computed

    def push(self, archive: Path, image: ImageTag) -> Digest:
        """Copy an OCI archive to a tag, and give the digest that the registry has there then."""
        self._push(archive, f"{self._host}/{image}")
        found = self.digest(image)
        if found is None:
            raise WorldError(f"{self._host}/{image}: pushed, but not there", hint="run again")
        return found

    def _ask(self, method: str, image: ImageTag) -> _Found | None:
        """Ask for a manifest; None where there is none."""
        host, _, path = self._host.partition("/")
        name = f"{path}/{image.name}" if path else image.name
        scheme = "http" if self._plain_http else "https"
        url = f"{scheme}://{host}/v2/{name}/manifests/{image.tag}"
        how = {"headers": {"Accept": _MANIFEST_TYPES}, "stream": method == "GET"}
        with self._told(image), self._client("token") as nobody:
            with nobody.session.request(method, url, verify=self._verify, **how) as answer:
                if answer.status_code != requests.codes.unauthorized:
                    return self._judge(answer, image)
                backend = self._backend(answer, image)
            with self._client(backend) as client, _do_request(client, url, method, **how) as answer:
                return self._judge(answer, image)

    @contextlib.contextmanager
    def _client(self, backend: str) -> Iterator[provider.Registry]:
        client = provider.Registry(
            insecure=self._plain_http, tls_verify=self._verify, auth_backend=backend
        )
        for prefix in ("http://", "https://"):
            client.session.mount(prefix, _Adapter(max_retries=_RETRY))
        if self._login is not None:
            client.auth.set_basic_auth(self._login.user, self._login.password)
        with client.session:
            yield client

    def _backend(self, answer: requests.Response, image: ImageTag) -> str:
        """Choose how to answer a challenge, and refuse to where a password could leak."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and self._login is not None:
            return "basic"
        realm = _REALM.search(challenge)
        if scheme != "bearer" or realm is None:
            raise self._denied(answer, image)
        if not self._plain_http and not realm[1].startswith("https://"):
            raise DeniedError(f"{self._host}: sends us for a token to {printable(realm[1])[:200]}")
        return "token"

    def _judge(self, answer: requests.Response, image: ImageTag) -> _Found | None:
        if answer.status_code == requests.codes.ok:
            content = answer.raw.read(_MAX_MANIFEST_BYTES + 1, decode_content=True)
            return _Found(_announced(answer), content)
        if answer.status_code == requests.codes.not_found:
            return None
        if answer.status_code in {requests.codes.unauthorized, requests.codes.forbidden}:
            raise self._denied(answer, image)
        raise WorldError(
            f"{self._host}/{image}: the registry answered {answer.status_code} "
            f"{printable(answer.reason or '')[:80]}",
            hint="is that a registry, and is registry.plainHttp right?",
        )

    def _denied(self, answer: requests.Response, image: ImageTag) -> DeniedError:
        whom = "the login that we have" if self._login else "anybody without a login"
        return DeniedError(
            f"{self._host}/{image}: the registry refused {whom} ({answer.status_code})",
            hint=f"{self._log_in()}; logins to ECR are good for 12 hours",
        )

    def _log_in(self) -> str:
        """Give the command that makes the login that we would use."""
        file = f"--authfile {shlex.quote(str(self._authfile))} " if self._authfile else ""
        return f"skopeo login {file}{self._host.partition('/')[0]}"

    @contextlib.contextmanager
    def _told(self, image: ImageTag) -> Iterator[None]:
        """Turn what requests and oras raise into errors of ours."""
        place = f"{self._host}/{image}"
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise _no_tls(place, str(error)) from error
        except (requests.exceptions.RequestException, HTTPError) as error:
            raise WorldError(
                f"{place}: cannot reach the registry: {_reason(error)}",
                hint="check registry.host, the network and the proxy settings",
            ) from error
        except ValueError as error:  # all that oras says when it got no token
            raise DeniedError(
                f"{place}: the registry's token service refused us",
                hint=self._log_in(),
            ) from error


class _Adapter(HTTPAdapter):
    """Sets the timeouts, which oras leaves out: without them a dead registry holds us for ever."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one request."""
        return super().send(request, stream, timeout or _TIMEOUT, verify, cert, proxies)


def _announced(answer: requests.Response) -> Digest | None:
    try:
        return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    except ValueError:
        return None


def _no_tls(place: str, reason: str) -> WorldError:
    if is_of_another_host(reason):
        detail, hint = "its certificate is of another host", f"registry.host: {OTHER_HOST_HINT}"
    elif "CERTIFICATE_VERIFY_FAILED" in reason:
        found = re.search(r"certificate verify failed: ([^(]*)", reason)
        detail = f"its certificate is not trusted: {found[1].strip() if found else reason}"
        hint = "name the CA that it is of: registry.ca in the target"
    else:
        detail = "the registry does not speak TLS there"
        hint = "registry.plainHttp: true, if it speaks plain HTTP and you trust the network"
    return WorldError(f"{place}: {printable(detail)[:300]}", hint=hint)


def _reason(error: Exception) -> str:
    """Find the one telling line in what may be four exceptions deep."""
    text = str(error)
    found = re.search(r"(?:\[Errno -?\d+\] |: )([A-Z][^:()'\"]{5,80})[)'\"]*$", text)
    return printable(found[1] if found else text)[:200]
