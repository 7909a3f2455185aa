"""What we make of skopeo's answers, whatever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bundler.errors import (
    MalformedError,
    ToolError,
    ToolFailedError,
    ToolNotFoundError,
    WorldError,
)
from bundler.source import RegistrySource
from bundler.tools.skopeo import Skopeo
from bundler.tools.skopeo_errors import explained


class Answers:
    """Takes the place of ``process.run`` and says one thing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = 0,
    ) -> str:
        return self.text


def test_a_copy_that_never_ends_is_ended_after_hours(tmp_path: Path) -> None:
    seen: list[float | None] = []

    def record(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = 0,
    ) -> str:
        seen.append(timeout)
        raise ToolFailedError(argv, 1, "no")

    with pytest.raises(WorldError):
        Skopeo(run=record).push(tmp_path / "a.tar", "a.example/x:1", scratch=tmp_path)
    assert seen == [12 * 3600.0]


@pytest.mark.parametrize("text", ["skopeo version 1.8.0\n", "something else\n"])
def test_an_old_skopeo_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match=r"expected 1\.9 or newer"):
        Skopeo(run=Answers(text)).require()


def test_a_missing_skopeo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolNotFoundError, match="skopeo"):
        Skopeo().require()


@pytest.mark.parametrize(
    "manifest",
    [
        '{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}',
        '{"layers": [{"size": -1}]}',
        '{"layers": [{"size": 1.5}]}',
        "not JSON",
    ],
)
def test_a_manifest_that_we_do_not_read_is_refused(manifest: str) -> None:
    with pytest.raises(MalformedError):
        Skopeo(run=Answers(manifest)).resolve(RegistrySource("a.example/x", "1"))


def test_an_error_that_nobody_foresaw_is_passed_on_in_one_line() -> None:
    stderr = 'time="x" level=fatal msg="it said \\"no\\"\\nand \x1b[2J more"\n'
    error = explained(ToolFailedError(["skopeo", "copy"], 1, stderr), "docker://a.example/x:1")
    assert isinstance(error, ToolError)
    assert str(error).startswith('docker://a.example/x:1: skopeo failed: it said "no"')
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)


def test_the_answer_that_tells_the_cause_is_shown_of_several() -> None:
    stderr = (
        'time="x" level=fatal msg="Error parsing image name \\"docker://q.example/a:1\\": (Mirrors '
        "also failed: [m.example/a:1: reading manifest 1 in m.example/a: manifest unknown: "
        'manifest unknown]): q.example/a:1: pinging container registry q.example: no such host"'
    )
    error = explained(ToolFailedError(["skopeo", "inspect"], 1, stderr), "docker://q.example/a:1")
    assert str(error) == (
        "docker://q.example/a:1: expected an image there, found none (manifest unknown)"
    )
