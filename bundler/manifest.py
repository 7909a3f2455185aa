"""What a release holds, down to the part: the types behind MANIFEST.json.

Reading and writing them is ``bundler.manifest_codec``; FORMAT.md explains each field.
"""

from __future__ import annotations

from dataclasses import dataclass

from bundler.digest import Digest, tree_digest
from bundler.document import utc_time
from bundler.manifest_charts import Chart as Chart
from bundler.manifest_images import Blob as Blob
from bundler.manifest_images import Image as Image
from bundler.manifest_images import require_subjects, running
from bundler.manifest_rules import not_negative, require_sorted
from bundler.manifest_rules import require_unique as require_unique
from bundler.parts import Span, part_size, spans
from bundler.reference import file_name, image_tag, model_key, plain_text, relative_path

MANIFEST_NAME = "MANIFEST.json"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 64 << 20
SLICE_BYTES = 64 << 20
MODEL_TYPES = ("agent", "agent_small", "completion")
GPU_COUNTS = (1, 2, 4, 8)
# What one provenance statement can name with MANIFEST.json: a bundle and the checkpoints.
# Source: sigstore-go, pkg/verify: it refuses statements with more than 1024 subjects.
MAX_ARCHIVES = 1022
# What every tar and zip of the field can hold as a time.
_FIRST_TIME, _LAST_TIME = "1980-01-01T00:00:00Z", "2199-12-31T23:59:59Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Which release this is.

    Attributes:
        name: Product name, such as ``poolside-inference``.
        version: Its version; with the name it makes the name of the directory and the bundle.
        sequence: Grows with each release; what rollback is judged by. From the spec.
        created: UTC seconds, from the spec or lock, never from the clock.
        expires: UTC seconds, or None for never.
    """

    name: str
    version: str
    sequence: int
    created: str
    expires: str | None = None

    def __post_init__(self) -> None:
        file_name(self.name)
        image_tag(self.version)
        file_name(self.directory)
        if not _FIRST_TIME <= utc_time(self.created) <= _LAST_TIME:
            raise ValueError(f"created: expected {_FIRST_TIME} to {_LAST_TIME}, got {self.created}")
        if self.expires is not None and utc_time(self.expires) <= self.created:
            raise ValueError(f"expires {self.expires} is not after created {self.created}")
        if self.sequence < 1:
            raise ValueError(f"sequence must be at least 1, got {self.sequence}")

    @property
    def directory(self) -> str:
        """The name of the release's directory and of the bundle's one top-level directory."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """One file below the bundle's root; ``offset`` is where its bytes start in the plain tar."""

    path: str
    offset: int
    size: int
    digest: Digest
    executable: bool = False

    def __post_init__(self) -> None:
        relative_path(self.path)
        not_negative(self.path, self.offset, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The deployment bundle: a gzip of stored blocks around a tar.

    Attributes:
        archive: File name of the archive.
        root: Its one top-level directory.
        size, digest: Of the whole archive.
        block_bytes: Plain bytes in each stored deflate block but the last.
        slices: sha256 of each 64 MiB of the archive, in order.
        files: Every file, sorted by path.
    """

    archive: str
    root: str
    size: int
    digest: Digest
    block_bytes: int
    slices: tuple[Digest, ...]
    files: tuple[BundleFile, ...]

    def __post_init__(self) -> None:
        file_name(self.archive)
        file_name(self.root)
        require_unique("file", (file.path for file in self.files))
        require_sorted("bundle.files", [file.path for file in self.files])
        if len(self.slices) != -(-self.size // SLICE_BYTES):
            raise ValueError(f"{len(self.slices)} slices do not make {self.size} bytes")
        if not 1 <= self.block_bytes <= 0xFFFF:
            raise ValueError(f"blockBytes: expected 1 to 65535, got {self.block_bytes}")

    def file(self, path: str) -> BundleFile:
        """Find a file by its path; KeyError where there is none."""
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """One file of a checkpoint.

    Attributes:
        path: Below the archive's top directory.
        offset: Where its bytes start in the archive.
        size, digest: Of the whole file.
        parts: sha256 of each part; at least one, also of an empty file.
    """

    path: str
    offset: int
    size: int
    digest: Digest
    parts: tuple[Digest, ...]

    def __post_init__(self) -> None:
        relative_path(self.path)
        not_negative(self.path, self.offset, self.size)
        expected = len(self.spans())
        if len(self.parts) != expected:
            raise ValueError(f"{self.path}: expected {expected} parts, got {len(self.parts)}")
        if expected == 1 and self.parts[0] != self.digest:
            raise ValueError(f"{self.path}: its one part has another digest than the file")

    @property
    def part_bytes(self) -> int:
        """Bytes of each part but the last."""
        return part_size(self.size)

    def spans(self) -> tuple[Span, ...]:
        """Where its parts lie, counted from the file's first byte."""
        return tuple(spans(self.size, part_size(self.size)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint and the archive that carries it.

    Attributes:
        name: The archive's file name without ``.tar``.
        root: The archive's one top-level directory.
        size, digest: Of the whole archive.
        frame_digest: sha256 over all bytes of the archive that are no file's, in order.
        files: Every file, sorted by path, which is also their order in the archive.
    """

    name: str
    root: str
    size: int
    digest: Digest
    frame_digest: Digest
    files: tuple[CheckpointFile, ...]

    def __post_init__(self) -> None:
        file_name(self.name)
        file_name(self.root)
        require_sorted(f"checkpoint {self.name}: files", [file.path for file in self.files])
        require_unique(f"checkpoint {self.name}: path", (file.path for file in self.files))
        if not self.files:
            raise ValueError(f"checkpoint {self.name} has no file")
        end = 0
        for file in sorted(self.files, key=lambda file: file.offset):
            if file.offset < end or file.offset + file.size > self.size:
                raise ValueError(f"checkpoint {self.name}: {file.path} overlaps or leaves archive")
            end = file.offset + file.size

    @property
    def archive(self) -> str:
        """The file name of the archive."""
        return f"{self.name}.tar"

    @property
    def identity(self) -> Digest:
        """What makes it the same checkpoint in any archive: its paths, sizes and digests."""
        return tree_digest((file.path, file.size, file.digest) for file in self.files)

    @property
    def content_bytes(self) -> int:
        """The sum of its files' sizes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How the vendor means a checkpoint to be served; a target may say otherwise."""

    key: str
    checkpoint: str
    model_name: str
    model_type: str
    gpus: int

    def __post_init__(self) -> None:
        model_key(self.key)
        check_serving(self.model_type, self.gpus)
        plain_text(self.model_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that a release holds."""

    release: Release
    bundle: Bundle
    images: tuple[Image, ...]
    charts: tuple[Chart, ...]
    checkpoints: tuple[Checkpoint, ...]
    models: tuple[Model, ...]

    def __post_init__(self) -> None:
        require_unique("image", (str(image.tag) for image in self.images))
        require_unique("chart", (chart.name for chart in self.charts))
        require_unique("archive", (checkpoint.archive for checkpoint in self.checkpoints))
        require_unique("model", (model.key for model in self.models))
        names = {checkpoint.name for checkpoint in self.checkpoints}
        for model in self.models:
            if model.checkpoint not in names:
                raise ValueError(f"model {model.key}: there is no checkpoint {model.checkpoint!r}")
        require_subjects(self.images)
        self._check_charts()
        self._check_bundle()

    def _check_charts(self) -> None:
        own = [chart.name for chart in self.charts if not chart.is_archive]
        if len(own) != 1:
            got = ", ".join(own) or "none"
            raise ValueError(f"charts: expected one that is a directory, got {got}")

    def _check_bundle(self) -> None:
        root, files = self.release.directory, self.bundle.files
        if (self.bundle.archive, self.bundle.root) != (f"{root}.tar.gz", root):
            raise ValueError(
                f"bundle: expected archive {root}.tar.gz with root {root}, "
                f"got {self.bundle.archive} with {self.bundle.root}"
            )
        held = {file.path: (file.size, file.digest) for file in files}
        for image in self.images:
            if image.tag.archive_path not in held:
                raise ValueError(f"image {image.tag}: no {image.tag.archive_path} in the bundle")
        for chart in self.charts:
            chart.check_files(held)

    @property
    def running(self) -> tuple[Image, ...]:
        """The images that run: all but what is attached to them."""
        return running(self.images)

    @property
    def own_chart(self) -> Chart:
        """The chart that is installed; charts of others are carried, not installed."""
        return next(chart for chart in self.charts if not chart.is_archive)

    @property
    def archives(self) -> dict[str, tuple[int, Digest]]:
        """Size and digest of every archive, by its file name."""
        bundle = {self.bundle.archive: (self.bundle.size, self.bundle.digest)}
        return bundle | {c.archive: (c.size, c.digest) for c in self.checkpoints}

    def checkpoint(self, name: str) -> Checkpoint:
        """Find a checkpoint by its name; KeyError where there is none."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}[name]


def check_serving(model_type: str, gpus: int) -> None:
    """Hold a model's type and GPU count to what the server supports.

    Raises:
        ValueError: One of them is something else.
    """
    if model_type not in MODEL_TYPES:
        raise ValueError(f"modelType: expected {', '.join(MODEL_TYPES)}, got {model_type!r}")
    if gpus not in GPU_COUNTS:
        raise ValueError(f"gpus: expected one of {', '.join(map(str, GPU_COUNTS))}, got {gpus}")
