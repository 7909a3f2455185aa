"""What the cluster remembers of what was deployed: a ConfigMap of ours, beside the Helm release.

No chart has it, so nothing that Helm does makes the cluster forget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bundler.document import Document
from bundler.errors import DeniedError
from bundler.publish.cluster import Cluster
from bundler.publish.pointer import Pointer, blaming_others, decode_pointer, encode_pointer
from bundler.target import KubernetesTarget
from bundler.tools.kubectl import Object

_KIND, _FIELD = "configmap", "current.json"
_LABELS = {"app.kubernetes.io/managed-by": "bundle"}

Get = Callable[[str, str], Object | None]


@dataclass(frozen=True, slots=True)
class ClusterMemory:
    """The ConfigMap that belongs to one Helm release.

    Attributes:
        target: Names the two.
    """

    target: KubernetesTarget

    @property
    def name(self) -> str:
        """Its name."""
        return f"bundle-current-{self.target.release}"

    def __str__(self) -> str:
        return f"{_KIND} {self.target.namespace}/{self.name}"

    def read(self, get: Get) -> Pointer | None:
        """Read it by way of a cluster's ``get``; None where there is none.

        Raises:
            MalformedError: It is not what we write.
            DeniedError: The cluster does not let us; the message has verb and namespace.
        """
        with self._telling("read"):
            found = get(_KIND, self.name)
        return None if found is None else self._decoded(found)

    def write(self, cluster: Cluster, pointer: Pointer, *, dry_run: bool = False) -> None:
        """Make or change it, whoever changed it before: it is ours alone.

        Raises:
            DeniedError: The cluster does not let us.
        """
        with self._telling("written"):
            cluster.apply(self._object(pointer), force=True, dry_run=dry_run)

    def _decoded(self, found: Object) -> Pointer:
        with blaming_others(str(self)):
            table = Document(str(self), found).table()
            if "binaryData" in table:
                table.refuse("binaryData", "expected none")
            data = table.table("data")
            text = data.text(_FIELD)  # no text is read beyond 4096 characters
            data.close()
            return decode_pointer(text.encode(errors="surrogatepass"), name=str(self))

    def _object(self, pointer: Pointer) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": self.target.namespace,
                "labels": _LABELS,
            },
            "data": {_FIELD: encode_pointer(pointer).decode()},
        }

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except DeniedError as error:
            raise DeniedError(
                f"{self}: cannot be {what}: {error}",
                hint="what was deployed is remembered there, too, so that no older release is "
                "taken for a newer one; let this user get, create and patch configmaps in "
                f"namespace {self.target.namespace}",
            ) from error
