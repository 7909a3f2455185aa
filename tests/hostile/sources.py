"""What goes into a build, with one thing in it hostile."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import missing
from tests.hostile.limited import Make, Place
from tests.hostile.raw_tar import END, member
from tests.integration.release_inputs import write_inputs
from tests.layouts import LayoutMaker

IMAGE, MODEL = Path("images/atlas"), Path("models/one")
ABOUT = b"apiVersion: v2\nname: other\nversion: 1.2.3\n"
# Is given the directory with the sources.
Change = Callable[[Path], object]


def need_programs() -> None:
    """Skip, or fail in CI, where a program that a build starts is missing."""
    for program in ("helm", "skopeo"):
        if shutil.which(program) is None:
            missing(program)


def spoiled(change: Change, command: str = "build") -> Make:
    """Make a case of good sources that were changed: ``lock`` reads all but layers."""

    def make(place: Place) -> list[str]:
        need_programs()
        spec = write_inputs(place.input)
        change(place.input)
        out = ["--output", str(place.out)] if command == "build" else []
        return [command, str(spec), "--no-cache", *out]

    return make


def lock_of(place: Place) -> dict[str, object]:
    """Give what a run that ends well leaves beside the spec, as ``Place.snapshot`` does."""
    return {path: seen for path, seen in place.snapshot().items() if path.endswith(".lock.json")}


def edit_spec(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a spec as plain YAML."""
    path = directory / "release.yaml"
    table = yaml.safe_load(path.read_text())
    edit(table)
    path.write_text(yaml.safe_dump(table, sort_keys=False))


def new_layout(directory: Path) -> LayoutMaker:
    """Start the layout of an image anew."""
    shutil.rmtree(directory / IMAGE)
    return LayoutMaker(directory / IMAGE)


def take_image_from(directory: Path, source: str) -> None:
    """Let the spec take the image from elsewhere."""
    edit_spec(directory, lambda spec: spec["images"][0].update(source=source))


def add_chart(directory: Path, archive: bytes, **more: object) -> None:
    """Let the release carry a chart of others."""
    (directory / "other.tgz").write_bytes(archive)
    entry = {"source": "other.tgz", "images": "discover", "startsLater": [], **more}
    edit_spec(directory, lambda spec: spec.update(charts=[entry]))


def chart_tar(*members: bytes, about: bytes = ABOUT) -> bytes:
    """Give the plain tar of a chart with such members behind its Chart.yaml."""
    return member(b"other/Chart.yaml", data=about) + b"".join(members) + END


def chart_archive(*members: bytes, about: bytes = ABOUT) -> bytes:
    """Give the same as ``helm package`` does."""
    return gzip.compress(chart_tar(*members, about=about), mtime=0)


def template(content: bytes, name: bytes = b"a.yaml") -> bytes:
    """Give a chart's template."""
    return member(b"other/templates/" + name, data=content)
