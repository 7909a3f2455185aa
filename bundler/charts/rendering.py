"""What is asked of the program that renders charts, and what its answers mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bundler.errors import ToolFailedError, printable

# What makes templates come to other objects in a cluster, or the next time, than here; anywhere in
# a file, so that no way of quoting hides it. Source: Helm, "Template Function List"; Sprig.
_VARYING = re.compile(
    r"""\blookup(?=\s*["`$.(]) | \b(?:IsUpgrade|IsInstall)\b | \.Release\.Revision\b
    | [."`]Capabilities\b | \b(?:eq|ne)\b[^{}()|]{0,200}\.Release\.(?:Name|Namespace)\b
    | \b(?:getHostByName|uuidv4|shuffle|encryptAES|htpasswd|bcrypt)\b
    | \brand(?:Alpha|Ascii|Numeric|Bytes|Int)\w*
    | \bgen(?:CA|PrivateKey|SelfSignedCert|SignedCert)\w*
    | (?<=[{(|=-])\s*now\b | \bnow(?=\s*[|)}])""",
    re.VERBOSE,
)
_COMMENT, _COMMENT_END = re.compile(r"\{\{-?\s*/\*"), "*/"
_MAX_MESSAGE = 1000


class ChartRenderer(Protocol):
    """What renders a Helm chart."""

    def require(self) -> None:
        """Raise ToolError where a program is missing or too old."""

    def template(
        self,
        chart: Path,
        release: str,
        namespace: str,
        values_files: Sequence[Path],
        *,
        kube_version: str | None = None,
        api_versions: Sequence[str] = (),
        upgrade: bool = False,
    ) -> str:
        """Give all objects of a chart, hooks, tests and ``crds/`` included, as YAML.

        Args:
            chart: Its directory or archive.
            release: Name of the Helm release.
            namespace: Where it would go.
            values_files: Values on top of the chart's own; a later file wins.
            kube_version: Version of Kubernetes that templates are told; None for ours.
            api_versions: APIs that templates are told beyond those of Kubernetes.
            upgrade: Render as for a release that is there already.

        Raises:
            ToolFailedError: The chart does not render with these values.
        """


def varying(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Find what makes templates come to something else in a cluster than here, where we look.

    Args:
        files: Content of a chart's files, by path.

    Yields:
        ``path:line`` and what stands there, once a file.
    """
    for path, content in sorted(files.items()):
        if "templates" not in path.split("/"):
            continue
        text = _without_comments(content.decode(errors="replace"))
        if found := _VARYING.search(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{printable(path)}:{line}", found[0].strip()


def problem(error: ToolFailedError) -> str:
    """Tell in one line why a chart does not render."""
    lines = [line.strip() for line in error.stderr.splitlines()]
    said = [line for line in lines if line and not line.startswith("Use --debug")]
    return printable("; ".join(said).removeprefix("Error: ")[:_MAX_MESSAGE])


def _without_comments(text: str) -> str:
    """Take comments out, but for their line breaks; what does not end is none."""
    kept, at = [], 0
    for found in _COMMENT.finditer(text):
        if found.start() < at:
            continue
        end = text.find(_COMMENT_END, found.end())
        if end < 0:
            break
        kept += [text[at : found.start()], "\n" * text.count("\n", found.start(), end)]
        at = end + len(_COMMENT_END)
    return "".join([*kept, text[at:]])
