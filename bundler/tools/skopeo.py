"""The ``skopeo`` program: images between registries, OCI layouts and OCI archives."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import (
    ContentError,
    MalformedError,
    NotFoundError,
    ToolError,
    ToolFailedError,
    WorldError,
    printable,
)
from bundler.jsontext import MAX_INTEGER, read_json
from bundler.process import Run, run
from bundler.source import Fetched, LayoutSource, RegistrySource, Resolved, Source
from bundler.tools.skopeo_errors import explained

# The oldest that was tried with the flags below.
_OLDEST = (1, 9)
_VERSION = re.compile(r"skopeo version (\d+)\.(\d+)")
# Source: OCI distribution specification v1.1, "Pushing Manifests": registries take 4 MiB at least.
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_DEPTH, _MAX_CHILDREN = 3, 64
_DOCKER = "application/vnd.docker."
# Signed manifests of this kind have a digest that is not the one of their bytes.
_DOCKER_V1 = "application/vnd.docker.distribution.manifest.v1"
# --all: every platform. --retry-times: for connections that break; other errors come at once.
_COPY = ("copy", "--all", "--quiet", "--retry-times=2")
# Fail rather than recompress a layer, which would change the digest that is locked and signed.
_KEEP_DIGESTS = "--preserve-digests"
# With --preserve-digests skopeo 1.9 leaves Docker's media types in an OCI layout, where no tool of
# the customer expects them.
_CONVERT = "--format=oci"
_NAME_IN_LAYOUT = "image"
# Of a registry that has stopped answering: 15 GB at 1 MB/s take a good four hours.
_COPY_SECONDS = 12 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Skopeo:
    """The ``skopeo`` program.

    Attributes:
        authfile: Credentials for sources, in the form of containers-auth.json(5); None for the
            places where skopeo looks by itself.
        cert_dir: Directory with the ``ca.crt`` of the sources' registries; None as above.
        run: How programs are started.
    """

    authfile: Path | None = None
    cert_dir: Path | None = None
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

    def resolve(self, source: Source, *, plain_http: bool = False) -> Resolved:
        """Ask what a source names now, without copying it.

        Args:
            source: Where the image is; the path of a layout absolute.
            plain_http: Speak to the registry without verified TLS.

        Raises:
            NotFoundError: There is no such image.
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails.
            MalformedError: The manifest there is not one that we read.
            ContentError: A layout's manifest is not the one that the layout names.
        """
        content = self._manifest(source, plain_http)
        text = content.decode()
        return Resolved(
            digest=Digest.of(content),
            size=self._size(source, content, plain_http),
            docker_typed=_DOCKER in text,
        )

    def fetch(self, source: Source, layout_dir: Path, *, plain_http: bool = False) -> Fetched:
        """Copy an image, all its platforms, into an OCI layout that holds nothing else.

        A Docker-typed image is converted to OCI, which changes its digest; any other keeps it.

        Args:
            source: Where the image is; the path of a layout absolute.
            layout_dir: A directory that does not exist yet.
            plain_http: Speak to the registry without verified TLS.

        Raises:
            NotFoundError: There is no such image.
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails, or the disk is full.
            MalformedError: The manifest there is not one that we read.
            ContentError: A layout's manifest is not the one that the layout names.
        """
        content = self._manifest(source, plain_http)
        digest = Digest.of(content)
        pinned = source.at(digest) if isinstance(source, RegistrySource) else source
        how = _CONVERT if _DOCKER in content.decode() else _KEEP_DIGESTS
        copied = self._copy(
            [how, *self._source_flags("src-", source, plain_http)],
            _reference(pinned),
            f"oci:{_plain_path(layout_dir)}:{_NAME_IN_LAYOUT}",
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
            authfile: As the attribute, but for the destination.
            cert_dir: As the attribute, but for the destination.
            scratch: Directory where skopeo unpacks the archive; it holds nothing afterwards.

        Returns:
            The digest under which the registry has it now.

        Raises:
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails, or the disk is full.
        """
        flags = [_KEEP_DIGESTS, *_flags("dest-", authfile, cert_dir, plain_http)]
        source = f"oci-archive:{_plain_path(archive)}"
        target = f"docker://{destination}"
        return self._copy(flags, source, target, scratch=scratch, what=target)

    def _copy(
        self, flags: list[str], source: str, target: str, *, scratch: Path, what: str
    ) -> Digest:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="skopeo-") as own:
            digest_file = Path(own, "digest")
            argv = ["skopeo", f"--tmpdir={own}", *_COPY, f"--digestfile={digest_file}", *flags]
            try:
                self.run([*argv, source, target], timeout=_COPY_SECONDS)
            except ToolFailedError as error:
                raise explained(error, what) from error
            return Digest.parse(digest_file.read_text().strip())

    def _manifest(self, source: Source, plain_http: bool) -> bytes:
        if isinstance(source, LayoutSource):
            _require_layout(source)
        argv = ["skopeo", "inspect", "--raw", *self._source_flags("", source, plain_http)]
        try:
            content = self.run([*argv, _reference(source)]).encode()
        except ToolFailedError as error:
            raise explained(error, str(source)) from error
        if _DOCKER_V1.encode() in content:
            raise MalformedError(
                f"{source}: a Docker schema 1 image, expected OCI or Docker schema 2",
                hint="push it again with a tool of this decade",
            )
        if isinstance(source, LayoutSource):
            _require_named(source, Digest.of(content))
        return content

    def _size(self, source: Source, content: bytes, plain_http: bool, depth: int = 0) -> int:
        if isinstance(source, LayoutSource):
            return sum(path.stat().st_size for path in Path(source.path, "blobs").rglob("*"))
        table = read_json(content, name=str(source), limit=_MAX_MANIFEST_BYTES).table()
        children = table.tables("manifests")
        if depth > _MAX_DEPTH or len(children) > _MAX_CHILDREN:
            table.refuse("manifests", "an index that is nested too deep or too large")
        total = len(content) + sum(map(_blob_size, table.tables("layers")))
        if "config" in table:
            total += _blob_size(table.table("config"))
        for child in children:
            image = source.at(child.parse("digest", Digest.parse))
            manifest = self._manifest(image, plain_http)
            total += self._size(image, manifest, plain_http, depth + 1)
        return total

    def _source_flags(self, prefix: str, source: Source, plain_http: bool) -> list[str]:
        if isinstance(source, LayoutSource):
            return []
        return _flags(prefix, self.authfile, self.cert_dir, plain_http)


def _require_layout(source: LayoutSource) -> None:
    if not Path(source.path).is_dir():
        raise NotFoundError(
            f"{printable(str(source))}: expected an OCI layout there, found no such directory",
            hint="correct the path; in a release spec it is relative to the spec's directory",
        )


def _require_named(source: LayoutSource, digest: Digest) -> None:
    """Hold a manifest to the layout's index.json, which skopeo 1.9 does not."""
    path = Path(source.path, "index.json")
    index = read_json(path.read_bytes(), name=str(path), limit=_MAX_MANIFEST_BYTES).table()
    named = [item.parse("digest", Digest.parse) for item in index.tables("manifests")]
    if digest not in named:
        raise ContentError(
            f"{printable(str(source))}: expected a manifest that {path.name} names, got {digest}",
            hint="the layout is damaged; copy it again",
        )


def _flags(
    prefix: str, authfile: Path | None, cert_dir: Path | None, plain_http: bool
) -> list[str]:
    flags = [f"--{prefix}authfile={authfile}"] if authfile else []
    flags += [f"--{prefix}cert-dir={cert_dir}"] if cert_dir else []
    return flags + ([f"--{prefix}tls-verify=false"] if plain_http else [])


def _reference(source: Source) -> str:
    if isinstance(source, LayoutSource):
        return f"oci:{_plain_path(Path(source.path))}" + (f":{source.tag}" if source.tag else "")
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


def _blob_size(table: Table) -> int:
    return table.integer("size", 0, MAX_INTEGER)
