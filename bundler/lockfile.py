"""The lock: every source of a release spec, pinned to its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.chart_images import with_chart_images
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import MalformedError
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.lock_charts import (
    LockedThirdPartyChart,
    describe_chart,
    from_locked_chart,
    require_unique_charts,
    to_locked_chart,
)
from bundler.lock_images import (
    LOCK_HINT,
    LockedImage,
    describe_image,
    from_locked_image,
    to_locked_image,
)
from bundler.manifest import require_unique
from bundler.reference import ImageTag, file_name, relative_path
from bundler.source import local_path
from bundler.spec import Spec

LOCK_FORMAT = 1
MAX_LOCK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file: path as the spec writes it, or below its checkpoint; size in bytes."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedChart:
    """The chart's directory as it lies in the source tree; ``digest`` as ``tree_digest`` gives."""

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedCheckpoint:
    """The files of one checkpoint, sorted by path.

    Attributes:
        archive: Digest of the archive that is taken over as it is; None where one is written.
    """

    name: str
    files: tuple[LockedFile, ...]
    archive: Digest | None = None

    def __post_init__(self) -> None:
        require_unique("path", (file.path for file in self.files))

    @property
    def expected(self) -> dict[str, tuple[int, Digest]]:
        """Size and digest of each file, by its path."""
        return {file.path: (file.size, file.digest) for file in self.files}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What a release was, or is to be, built from. The same lock gives the same bytes."""

    images: tuple[LockedImage, ...]
    chart: LockedChart
    scripts: tuple[LockedFile, ...]
    checkpoints: tuple[LockedCheckpoint, ...]
    charts: tuple[LockedThirdPartyChart, ...] = ()

    def __post_init__(self) -> None:
        require_unique("image", (str(image.tag) for image in self.images))
        require_unique_charts(self.charts)
        require_unique("script", (file.path for file in self.scripts))
        require_unique("checkpoint", (item.name for item in self.checkpoints))

    def image(self, tag: ImageTag) -> LockedImage:
        """Find an image by its name and tag; KeyError where there is none."""
        return {image.tag: image for image in self.images}[tag]

    @property
    def chart_references(self) -> dict[str, tuple[str, ...]]:
        """The images that each chart of others names, by the chart's source."""
        return {chart.source: chart.references for chart in self.charts}

    def checkpoint(self, name: str) -> LockedCheckpoint:
        """Find a checkpoint by its name; KeyError where there is none."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}[name]


def lock_path(spec_path: Path) -> Path:
    """Give where the lock of a spec lies: ``<spec without .yaml>.lock.json``, beside it."""
    return spec_path.with_name(f"{spec_path.stem}.lock.json")


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Raises:
        NotFoundError: There is none.
        MalformedError: It breaks its grammar.
    """
    return decode_lock(read_limited(path, limit=MAX_LOCK_BYTES), name=str(path))


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock, whole or not at all."""
    atomic_write_bytes(path, encode_lock(lock))


def check_lock(lock: Lock, spec: Spec, *, name: str) -> None:
    """Refuse a lock that was made for another state of the spec.

    Raises:
        MalformedError: One of them names something that the other does not.
    """
    _compare(
        name,
        "chart",
        {chart.source: describe_chart(chart) for chart in spec.charts},
        {chart.source: chart.described for chart in lock.charts},
    )
    spec = with_chart_images(spec, lock.chart_references)
    _compare(
        name,
        "image",
        {str(item.tag): describe_image(item) for item in spec.images},
        {str(item.tag): item.described for item in lock.images},
    )
    _compare(name, "chart", {"chart": spec.chart.path}, {"chart": lock.chart.path})
    _compare(name, "script", _same(spec.scripts), _same(file.path for file in lock.scripts))
    _compare(
        name,
        "checkpoint",
        {item.name: "an archive" if item.archive else "files" for item in spec.checkpoints},
        {item.name: "an archive" if item.archive else "files" for item in lock.checkpoints},
    )


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _compare(name: str, what: str, spec: Mapping[str, str], lock: Mapping[str, str]) -> None:
    for key in sorted({*spec, *lock}):
        if spec.get(key) != lock.get(key):
            raise MalformedError(
                f"{name}: {what} {key}: spec says {spec.get(key) or 'nothing'}, "
                f"lock says {lock.get(key) or 'nothing'}",
                hint=LOCK_HINT,
            )


def encode_lock(lock: Lock) -> bytes:
    """Give the one byte string that stands for a lock."""
    return write_json(
        {
            "formatVersion": LOCK_FORMAT,
            "images": [from_locked_image(image) for image in lock.images],
            "chart": {"path": lock.chart.path, "sha256": lock.chart.digest.hex},
            "scripts": [from_locked_file(file) for file in lock.scripts],
            "checkpoints": [_from_checkpoint(item) for item in lock.checkpoints],
            "charts": [from_locked_chart(chart) for chart in lock.charts],
        }
    )


def decode_lock(content: bytes, *, name: str) -> Lock:
    """Read a lock's bytes.

    Raises:
        MalformedError: They break its grammar.
    """
    table = read_json(content, name=name, limit=MAX_LOCK_BYTES).table()
    if table.integer("formatVersion", 1, MAX_INTEGER) != LOCK_FORMAT:
        table.refuse("formatVersion", f"this version reads {LOCK_FORMAT} only", LOCK_HINT)
    chart = table.table("chart")
    lock = table.explain(
        lambda: Lock(
            images=tuple(map(to_locked_image, table.tables("images"))),
            chart=LockedChart(path=chart.text("path"), digest=chart.parse("sha256", Digest)),
            scripts=tuple(to_locked_file(item, local_path) for item in table.tables("scripts")),
            checkpoints=tuple(map(_to_checkpoint, table.tables("checkpoints"))),
            charts=tuple(map(to_locked_chart, table.tables("charts"))),
        )
    )
    chart.close()
    table.close()
    return lock


def from_locked_file(file: LockedFile) -> dict[str, object]:
    """Give a file as a lock writes it."""
    return {"path": file.path, "size": file.size, "sha256": file.digest.hex}


def to_locked_file(table: Table, rule: Callable[[str], str] = relative_path) -> LockedFile:
    """Read a file as a lock writes it, its path held to ``rule``, which raises ValueError."""
    file = LockedFile(
        path=table.parse("path", rule),
        size=table.integer("size", 0, MAX_INTEGER),
        digest=table.parse("sha256", Digest),
    )
    table.close()
    return file


def _from_checkpoint(checkpoint: LockedCheckpoint) -> dict[str, object]:
    written: dict[str, object] = {
        "name": checkpoint.name,
        "files": [from_locked_file(file) for file in checkpoint.files],
    }
    return written | ({"archiveSha256": checkpoint.archive.hex} if checkpoint.archive else {})


def _to_checkpoint(table: Table) -> LockedCheckpoint:
    checkpoint = table.explain(
        lambda: LockedCheckpoint(
            name=table.parse("name", file_name),
            files=tuple(map(to_locked_file, table.tables("files"))),
            archive=table.parse_optional("archiveSha256", Digest),
        )
    )
    table.close()
    return checkpoint
