"""The few calls to the Kubernetes API that the rehearsal itself makes, and watches of a kind."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rehearsal import addresses

# An object of the API, as JSON has it.
Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
_TIMEOUT = 10
_WATCH_TIMEOUT = 330  # the API server ends a watch after 5 to 10 minutes; then it is begun anew
_PAUSE = 0.3


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        """Take its HTTP status and what it said."""
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass(frozen=True, slots=True)
class KubeApi:
    """The API server of this network namespace, as its administrator sees it.

    Attributes:
        pki: Directory with ``kubernetes-ca.crt``, ``admin.crt`` and ``admin.key``.
    """

    pki: Path

    def get(self, path: str) -> Object:
        """Read one object or one list.

        Raises:
            ApiError: The server refused.
            OSError: The server is not there.
        """
        return self._request("GET", path)

    def create(self, path: str, document: Object) -> None:
        """Create an object in a collection, unless it is there.

        Raises:
            ApiError: The server refused.
            OSError: The server is not there.
        """
        try:
            self._request("POST", path, document)
        except ApiError as error:
            if error.status != 409:
                raise

    def patch(self, path: str, document: Object) -> None:
        """Merge into an object, or into its status.

        Raises:
            ApiError: The server refused.
            OSError: The server is not there.
        """
        self._request("PATCH", path, document, MERGE_PATCH)

    def is_ready(self) -> bool:
        """Ask whether the server has finished its own setup."""
        try:
            with self._connection(_TIMEOUT) as connection:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def watch(self, path: str, version: str) -> Iterator[tuple[str, Object]]:
        """Follow a collection from one version on: gives pairs of event type and object."""
        with self._connection(_WATCH_TIMEOUT) as connection:
            query = f"?watch=1&allowWatchBookmarks=true&resourceVersion={version}"
            connection.request("GET", path + query)
            response = connection.getresponse()
            if response.status != 200:
                raise ApiError(response.status, response.read().decode(errors="replace"))
            for line in response:
                event = json.loads(line)
                yield event["type"], event["object"]

    def _request(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        with self._connection(_TIMEOUT) as connection:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": kind})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        if response.status >= 300:
            raise ApiError(response.status, text)
        document: Object = json.loads(text)
        return document

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Iterator[http.client.HTTPSConnection]:
        context = ssl.create_default_context(cafile=str(self.pki / "kubernetes-ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", addresses.API_PORT, timeout=seconds, context=context
        )
        try:
            yield connection
        finally:
            connection.close()


class Informer:
    """Keeps a copy of one collection that follows the API server's, in a thread of its own."""

    def __init__(self, api: KubeApi, path: str) -> None:
        """Begin to follow ``path``; the copy is empty until the server answers."""
        self._api = api
        self._path = path
        self._objects: dict[str, Object] = {}
        self.changed = threading.Event()
        threading.Thread(target=self._follow, name=path, daemon=True).start()

    def objects(self) -> list[Object]:
        """Give the objects as they are now."""
        return list(self._objects.values())

    def _follow(self) -> None:
        while True:
            try:
                self._follow_once()
            except (OSError, http.client.HTTPException, ApiError, json.JSONDecodeError):
                time.sleep(_PAUSE)

    def _follow_once(self) -> None:
        listing = self._api.get(self._path)
        self._objects = {_key(each): each for each in listing["items"]}
        self.changed.set()
        for kind, each in self._api.watch(self._path, listing["metadata"]["resourceVersion"]):
            match kind:
                case "ADDED" | "MODIFIED":
                    self._objects = self._objects | {_key(each): each}
                case "DELETED":
                    self._objects = {
                        key: kept for key, kept in self._objects.items() if key != _key(each)
                    }
                case "ERROR":  # what we had is too old to go on from
                    return
            self.changed.set()


def _key(document: Object) -> str:
    metadata = document["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"
