"""The ``skopeo`` program: images between registries, OCI layouts and OCI archives."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.errors import (
    DeniedError,
    ToolError,
    ToolFailedError,
    ToolTimeoutError,
    WorldError,
    printable,
)
from bundler.process import Run, run
from bundler.source import ArchiveSource, Fetched, Platform, RegistrySource, Resolved, Source
from bundler.tools.image_index import ImageReader, is_docker_typed, resolve, tree_of
from bundler.tools.local_layout import NAME, LocalLayout, open_layout, require_file
from bundler.tools.skopeo_errors import explained

# The oldest that was tried with the flags below.
_OLDEST = (1, 9)
_VERSION = re.compile(r"skopeo version (\d+)\.(\d+)")
# --all: every platform of what is copied. --retry-times: for connections that break; other errors
# come at once.
_COPY = ("copy", "--all", "--quiet", "--retry-times=2")
# Fail rather than recompress a layer, which would change the digest that is locked and signed.
_KEEP_DIGESTS = "--preserve-digests"
# With --preserve-digests skopeo 1.9 leaves Docker's media types in an OCI layout, where no tool of
# the customer expects them.
_CONVERT = "--format=oci"
# Of a registry that has stopped answering: 15 GB at 1 MB/s take a good four hours.
_COPY_SECONDS = 12 * 3600.0
# A look-up brings at most 4 MiB; what skopeo waits for by itself, it waits for minutes.
_INSPECT_SECONDS = 120.0
_PUSH_LOGIN_HINT = (
    "give a login with `--registry-user` or the target's `registry.authFile`, or ask for the right "
    "to push there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skopeo:
    """The ``skopeo`` program; it looks by itself for logins and authorities of sources.

    Attributes:
        run: How programs are started.
    """

    run: Run = run

    def require(self) -> None:
        """Check that the program is there and new enough.

        Raises:
            ToolError: It is missing or too old.
        """
        text = self.run(["skopeo", "--version"])
        found = _VERSION.match(text)
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise ToolError(f"skopeo: expected 1.9 or newer, got {printable(text.strip()[:80])!r}")

    def resolve(
        self, source: Source, *, platform: Platform | None = None, plain_http: bool = False
    ) -> Resolved:
        """Ask what a source names now, and what of it is taken, without copying it.

        Args:
            source: Where the image is; a path in it absolute.
            platform: The one that is taken of an index, and must be the one of a single image;
                None for whatever is there.
            plain_http: Speak to the registry without verified TLS.

        Raises:
            NotFoundError: There is no such image.
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails.
            MalformedError: The manifest there is not one that we read, or not for the platform.
            ContentError: A layout's manifest is not the one that the layout names.
        """
        with self._open(source, plain_http) as opened:
            return resolve(opened.reader, platform)

    def fetch(
        self,
        source: Source,
        layout_dir: Path,
        *,
        taken: Digest | None = None,
        plain_http: bool = False,
    ) -> Fetched:
        """Copy an image into an OCI layout that holds nothing else.

        A Docker-typed image is converted to OCI, which changes its digest; any other keeps it.

        Args:
            source: Where the image is; a path in it absolute.
            layout_dir: A directory that does not exist yet.
            taken: Which manifest or index of the source to copy; None for the one that it names.
            plain_http: Speak to the registry without verified TLS.

        Raises:
            NotFoundError: There is no such image.
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails, or the disk is full.
            MalformedError: The manifest there is not one that we read.
            ContentError: A layout's manifest is not the one that the layout names.
        """
        with self._open(source, plain_http) as opened:
            reader = opened.reader
            content = reader.top() if taken is None else reader.manifest(taken)
            digest = Digest.of(content)
            how = _CONVERT if is_docker_typed(content) else _KEEP_DIGESTS
            with tempfile.TemporaryDirectory(dir=layout_dir.parent, prefix="source-") as own:
                copied = self._copy(
                    [how, *opened.flags],
                    opened.locate(content, Path(own, "layout")),
                    f"oci:{_plain_path(layout_dir)}:{NAME}",
                    scratch=layout_dir.parent,
                    what=str(source),
                )
        return Fetched(source_digest=digest, digest=copied)

    def push(
        self,
        archive: Path,
        destination: str,
        *,
        plain_http: bool = False,
        authfile: Path | None = None,
        cert_dir: Path | None = None,
        scratch: Path,
    ) -> Digest:
        """Copy an OCI archive to a registry, byte for byte.

        Args:
            archive: An OCI archive with one image.
            destination: ``HOST[:PORT]/REPOSITORY:TAG``.
            plain_http: Speak to the registry without verified TLS.
            authfile: Credentials, in the form of containers-auth.json(5); None for the places
                where skopeo looks by itself.
            cert_dir: Directory with the ``ca.crt`` of the registry; None as above.
            scratch: Directory where skopeo unpacks the archive; it holds nothing afterwards.

        Returns:
            The digest under which the registry has it now.

        Raises:
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails, or the disk is full.
        """
        flags = [_KEEP_DIGESTS, *_flags("dest-", plain_http)]
        flags += [f"--dest-authfile={authfile}"] if authfile else []
        flags += [f"--dest-cert-dir={cert_dir}"] if cert_dir else []
        source = f"oci-archive:{_plain_path(archive)}"
        target = f"docker://{destination}"
        try:
            return self._copy(flags, source, target, scratch=scratch, what=target)
        except DeniedError as error:
            raise DeniedError(str(error), hint=_PUSH_LOGIN_HINT) from error

    def _copy(
        self, flags: list[str], source: str, target: str, *, scratch: Path, what: str
    ) -> Digest:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="skopeo-") as own:
            digest_file = Path(own, "digest")
            argv = ["skopeo", f"--tmpdir={own}", *_COPY, f"--digestfile={digest_file}", *flags]
            self._run([*argv, source, target], what, _COPY_SECONDS)
            return Digest.parse(digest_file.read_text().strip())

    @contextlib.contextmanager
    def _open(self, source: Source, plain_http: bool) -> Iterator[_Opened]:
        if isinstance(source, RegistrySource):
            yield self._open_registry(source, plain_http)
        elif isinstance(source, ArchiveSource) and source.form == "docker-archive":
            require_file(source)
            yield self._open_docker(source)
        else:
            with open_layout(source) as layout:
                yield _in_layout(layout)

    def _open_registry(self, source: RegistrySource, plain_http: bool) -> _Opened:
        name = str(source)

        def inspect(image: RegistrySource, *flags: str) -> bytes:
            return self._inspect(_in_registry(image), name, *flags, *_flags("", plain_http))

        return _Opened(
            reader=ImageReader(
                name=name,
                top=lambda: inspect(source),
                manifest=lambda digest: inspect(source.at(digest)),
                config=lambda digest: inspect(source.at(digest), "--config"),
            ),
            flags=_flags("src-", plain_http),
            locate=lambda content, _: _in_registry(source.at(Digest.of(content))),
        )

    def _open_docker(self, source: ArchiveSource) -> _Opened:
        """Open what `docker save` wrote, to which skopeo makes up a manifest."""
        path = f"docker-archive:{_plain_path(Path(source.path))}"
        place = f"{path}:{source.name}" if source.name else path
        return _Opened(
            reader=ImageReader(
                name=str(source),
                top=lambda: self._inspect(place, str(source)),
                manifest=lambda _: self._inspect(place, str(source)),
                config=lambda _: self._inspect(place, str(source), "--config"),
            ),
            flags=[],
            locate=lambda *_: place,
        )

    def _inspect(self, place: str, name: str, *flags: str) -> bytes:
        argv = ["skopeo", "inspect", "--raw", *flags, place]
        return self._run(argv, name, _INSPECT_SECONDS).encode()

    def _run(self, argv: list[str], what: str, seconds: float) -> str:
        try:
            return self.run(argv, timeout=seconds)
        except (ToolFailedError, ToolTimeoutError) as error:
            raise explained(error, what) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A source that can be read.

    Attributes:
        reader: How its small blobs are read.
        flags: What a copy from it needs.
        locate: Says where skopeo finds what is copied, given its manifest or index and a directory
            that may be made for it.
    """

    reader: ImageReader
    flags: list[str]
    locate: Callable[[bytes, Path], str]


def _in_layout(layout: LocalLayout) -> _Opened:
    def locate(content: bytes, directory: Path) -> str:
        tree = tree_of(layout.reader, content)
        layout.derive(Digest.of(content), tree.sizes, directory)
        return f"oci:{_plain_path(directory)}:{NAME}"

    return _Opened(reader=layout.reader, flags=[], locate=locate)


def _flags(prefix: str, plain_http: bool) -> list[str]:
    return [f"--{prefix}tls-verify=false"] if plain_http else []


def _in_registry(source: RegistrySource) -> str:
    # skopeo takes a tag or a digest, not both.
    exact = f"@{source.digest}" if source.digest else f":{source.tag}"
    return f"docker://{source.repository}{exact}"


def _plain_path(path: Path) -> str:
    if ":" in str(path):
        raise WorldError(
            f"{printable(str(path))}: skopeo reads the ':' as the start of a tag",
            hint="use a directory with no ':' in its path",
        )
    return str(path)
