"""The ``kubectl`` program: reading and applying objects of one namespace."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError, ToolError, ToolFailedError, printable
from bundler.process import Run, run
from bundler.tools.kubernetes_errors import explained

Object = Mapping[str, object]

FIELD_MANAGER = "bundle"
# kubectl gives up on one request after this long; the second limit is for all that it does.
_REQUEST_TIMEOUT = "--request-timeout=60s"
_TIMEOUT_SECONDS = 180.0
_LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """``kubectl`` for one namespace.

    Attributes:
        namespace: Where it works; cluster-wide kinds ignore it.
        kubeconfig, context: None for what kubectl would use by itself.
        run: How programs are started.
    """

    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None
    run: Run = run

    def get(self, kind: str, name: str) -> Object | None:
        """Read one object; None where there is none."""
        text = self._run(["get", kind, name, "--ignore-not-found", "--output=json"])
        return read_json_output(text, "kubectl get") if text.strip() else None

    def find(self, kinds: str, selector: str) -> list[Object]:
        """Read all objects of some kinds, joined by commas, that a label selector finds."""
        text = self._run(["get", kinds, f"--selector={selector}", "--output=json"])
        items = read_json_output(text, "kubectl get").get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> None:
        """Make or change one object, on the server's side and as our own field manager.

        The object goes over standard input, and no annotation keeps a second copy of it. Values of
        a secret are cut out of the error.

        Args:
            item: The object.
            force: Take over fields that another manager set.
            dry_run: Let the server judge it, and change nothing.

        Raises:
            ConflictError: Another manager set one of the fields to something else.
        """
        argv = ["apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-"]
        argv += ["--force-conflicts"] * force + ["--dry-run=server"] * dry_run
        self._run(argv, stdin=json.dumps(item).encode(), hide=tuple(_secret_texts(item)))

    def last_log_lines(self, pod: str, container: str, *, previous: bool = False) -> list[str]:
        """Give the last few lines that a container wrote; empty where there are none or no log."""
        argv = ["logs", pod, f"--container={container}", f"--tail={_LOG_LINES}"]
        try:
            text = self._run([*argv, "--previous"] if previous else argv)
        except BundleError:
            return []
        return [printable(line.rstrip()) for line in text.splitlines() if line.strip()]

    def _run(self, argv: Sequence[str], *, stdin: bytes = b"", hide: Sequence[str] = ()) -> str:
        flags = [f"--namespace={self.namespace}", _REQUEST_TIMEOUT]
        if self.kubeconfig is not None:
            flags.append(f"--kubeconfig={self.kubeconfig}")
        if self.context is not None:
            flags.append(f"--context={self.context}")
        try:
            return self.run(["kubectl", *argv, *flags], stdin=stdin, timeout=_TIMEOUT_SECONDS)
        except ToolFailedError as error:
            # Not `from error`: that one has the message with the secrets in it.
            raise explained(error, hide=hide) from None


def read_json_output(text: str, what: str) -> dict[str, object]:
    """Read the JSON object that a program printed.

    Raises:
        ToolError: It printed something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ToolError(f"{what}: expected JSON, got {printable(text[:80])!r}") from None
    if not isinstance(value, dict):
        raise ToolError(f"{what}: expected a JSON object, got {printable(text[:80])!r}")
    return value


def _secret_texts(item: Object) -> Iterator[str]:
    data = item.get("data")
    if item.get("kind") == "Secret" and isinstance(data, dict):
        for value in data.values():
            yield value
            yield base64.b64decode(value).decode(errors="replace").strip()
