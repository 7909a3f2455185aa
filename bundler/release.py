"""A release directory whose signature, sums and manifest were judged, in that order."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.archive.volumes import Place
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, UntrustedError, printable
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from bundler.manifest_codec import decode_manifest
from bundler.release_files import ReleaseDirectory, ReleaseFiles, files_at, shown
from bundler.signing.keys import PublicKey
from bundler.signing.quorum import Quorum, Tally
from bundler.sums import MAX_SUMS_BYTES, SUMS_NAME, read_release_sums
from bundler.trust import TRUST_FOLDER, Trust, catch_up, is_trust_path

# An ECDSA signature on P-256 is at most 72 bytes of DER.
MAX_SIGNATURE_BYTES = 1 << 10
_MAX_SIGNATURES = 64
_MAX_NAMED = 3
_ADDITIVE = (f"{SUMS_NAME}.*.sig", "*.sigstore.json", "*.oms.json", "VOLUMES.json")
_SIGNATURE_NAME = re.compile(rf"{re.escape(SUMS_NAME)}\.[0-9a-f]{{8}}\.sig")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRelease:
    """A release that the keys we were given vouch for.

    Nothing is said of the archives yet: whoever reads one compares it with ``manifest``.

    Attributes:
        files: Where its files lie.
        manifest: What every archive holds.
        manifest_bytes: MANIFEST.json as it was signed.
        sums: Digest of each archive and of MANIFEST.json, by file name.
        sums_bytes: SHA256SUMS as it was signed.
        signers: Each distinct key that signed, sorted by its ``key8``.
        signature_files: A signature of each that was verified, by the name that it should have.
        trust: What it was judged by; the newer trust file that it brought, where it did.
        carried: All that travels with it, by path; None as long as ``carry_along`` has not
            read it: ``signature_files`` alone travel then.
    """

    files: ReleaseFiles
    manifest: Manifest
    manifest_bytes: bytes
    sums: Mapping[str, Digest]
    sums_bytes: bytes
    signers: tuple[PublicKey, ...]
    signature_files: Mapping[str, bytes]
    trust: Trust
    carried: Mapping[str, bytes] | None = None

    @property
    def directory(self) -> Path:
        """Where its files lie on this machine; MalformedError where they lie in a bucket."""
        return self.files.path()

    @property
    def elsewhere(self) -> tuple[Path, ...]:
        """Where else archives, or volumes of them, may lie."""
        return self.files.elsewhere if isinstance(self.files, ReleaseDirectory) else ()

    def place(self, archive: str) -> Place | None:
        """Say where an archive lies: whole, in volumes over several directories, in a bucket."""
        return self.files.place(archive, *self.manifest.archives[archive])

    @property
    def signatures(self) -> tuple[str, ...]:
        """The ``key8`` of each distinct key that signed, sorted."""
        return tuple(key.key8 for key in self.signers)

    def require_place(self, archive: str) -> Place:
        """Say where an archive lies; raises NotFoundError where it is nowhere."""
        place = self.place(archive)
        if place is None:
            raise NotFoundError(
                f"{archive}: neither it nor a volume of it is in {self.files.searched}",
                hint=self.files.absent_hint,
            )
        return place

    def is_signature(self, name: str, content: bytes) -> bool:
        """Say whether a file of this name and content is a signature by one of these keys."""
        return any(
            signature_name(key.key8) == name and key.verify(content, self.sums_bytes)
            for key in self.signers
        )


def signature_name(key8: str) -> str:
    """Name the file that holds a key's signature."""
    return f"{SUMS_NAME}.{key8}.sig"


def is_signature_name(name: str) -> bool:
    """Say whether a file is called as a key's signature is."""
    return _SIGNATURE_NAME.fullmatch(name) is not None


def is_additive(name: str, *, directory: bool) -> bool:
    """Say whether a release may hold ``name`` beside what SHA256SUMS names."""
    if directory:
        return name == TRUST_FOLDER
    return is_trust_path(name) or any(fnmatch.fnmatchcase(name, item) for item in _ADDITIVE)


def find_release(path: Path, release_dir: Path | None = None) -> Path:
    """Find the directory with the small files that vouch for ``path``.

    Args:
        path: A release directory, or an archive or an extracted directory.
        release_dir: Where to look instead of in ``path`` and beside it.

    Raises:
        NotFoundError: There is nothing at ``path``, or no SHA256SUMS where we looked.
    """
    if not os.path.lexists(path):
        raise NotFoundError(f"{shown(path)}: no such file or directory")
    beside = path.resolve().parent if path.is_dir() else path.parent
    for directory in [release_dir] if release_dir else [path, beside]:
        if os.path.lexists(directory / SUMS_NAME):
            return directory
    where = f"{shown(release_dir)}" if release_dir else f"{shown(path)}, nor beside it"
    files = files_at(release_dir or path)
    raise _no_release(files, f"no {SUMS_NAME} in {where}", "--release DIR")


def read_sums_file(where: Path | ReleaseFiles) -> bytes:
    """Read the SHA256SUMS of a release.

    Raises:
        NotFoundError: It is no release; the hint names one below it.
        MalformedError: SHA256SUMS is too large, or not a regular file.
    """
    files = files_at(where)
    if not files.has(SUMS_NAME):
        problem = f"{files.shown()}: not a release directory: there is no {SUMS_NAME} in it"
        raise _no_release(files, problem)
    return files.read(SUMS_NAME, limit=MAX_SUMS_BYTES)


def _no_release(files: ReleaseFiles, problem: str, option: str = "") -> NotFoundError:
    if below := files.below(SUMS_NAME):
        return NotFoundError(problem, hint=f"did you mean {' or '.join(below[:_MAX_NAMED])}?")
    hint = f"name the directory that has {SUMS_NAME}, {MANIFEST_NAME} and the signature"
    return NotFoundError(problem, hint=f"{hint}: {option}" if option else hint)


def open_release(
    where: Path | ReleaseFiles, trust: Trust, *, elsewhere: Sequence[Path] = ()
) -> TrustedRelease:
    """Verify a release's signatures, then read what they vouch for.

    Reads the small files only: trust files where one was given, SHA256SUMS, its signatures,
    MANIFEST.json.

    Args:
        where: Its directory, or its files wherever they lie.
        trust: Whom to trust.
        elsewhere: Where else archives, or volumes of them, may lie, beside a directory.

    Raises:
        UntrustedError: Nobody is trusted, fewer of those who are signed this SHA256SUMS than must,
            or the trust files that it brings do not follow from the one that was given.
        StaleError: The trust file is expired.
        ContentError: MANIFEST.json differs from what was signed, or the two disagree.
        MalformedError: A file is too large, not a regular file, or breaks its grammar.
        NotFoundError: SHA256SUMS or MANIFEST.json is not there.
    """
    files = files_at(where, elsewhere)
    if not trust:
        raise UntrustedError(
            f"{files.shown()}: no public key was given, so nobody can vouch for it",
            hint="give the vendor's public key, which did not come with the release: --key PUB; or "
            "the trust file: --trust FILE",
        )
    sums_bytes = read_sums_file(files)
    trust = catch_up(trust, files)
    signatures = _check_signatures(files, sums_bytes, trust.signers)
    manifest_bytes = files.read(MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    sums, manifest = read_agreed(files, sums_bytes, manifest_bytes)
    return TrustedRelease(
        files=files,
        manifest=manifest,
        manifest_bytes=manifest_bytes,
        sums=sums,
        sums_bytes=sums_bytes,
        signers=tuple(key for key, _ in signatures),
        signature_files={signature_name(key.key8): content for key, content in signatures},
        trust=trust,
    )


def read_agreed(
    where: Path | ReleaseFiles, sums_bytes: bytes, manifest_bytes: bytes
) -> tuple[dict[str, Digest], Manifest]:
    """Read SHA256SUMS, then the manifest that it names, and hold the two against each other.

    Raises:
        MalformedError: One of them breaks its grammar.
        ContentError: The manifest is not the one that SHA256SUMS names, or their archives differ.
    """
    files = files_at(where)
    sums_name, manifest_name = files.shown(SUMS_NAME), files.shown(MANIFEST_NAME)
    sums = read_release_sums(sums_bytes)
    expected, got = sums.get(MANIFEST_NAME), Digest.of(manifest_bytes)
    if expected is None:
        raise MalformedError(f"{sums_name}: expected a line for {MANIFEST_NAME}, got none")
    if got != expected:
        raise ContentError(
            f"{manifest_name}: expected {expected}, got {got}",
            hint=f"copy {MANIFEST_NAME} again from its source; if it stays, it was changed after "
            "signing",
        )
    manifest = decode_manifest(manifest_bytes, name=manifest_name)
    archives = {name: digest for name, (_, digest) in manifest.archives.items()}
    named = {name: digest for name, digest in sums.items() if name != MANIFEST_NAME}
    for name in sorted(archives.keys() | named.keys()):
        wanted, got_line = archives.get(name, "no line"), named.get(name, "no line")
        if wanted != got_line:
            raise ContentError(
                f"{sums_name}: {name}: expected {wanted} as in {MANIFEST_NAME}, got {got_line}",
                hint="the release was put together wrongly; ask the vendor for another",
            )
    return sums, manifest


def _check_signatures(
    files: ReleaseFiles, sums_bytes: bytes, trusted: Quorum
) -> list[tuple[PublicKey, bytes]]:
    """Give each distinct key that signed, and a signature of it that holds."""
    names = _signature_names(files)
    if not names:
        raise UntrustedError(
            f"{files.shown(SUMS_NAME)}: expected {signature_name('<key8>')} beside it, "
            "got no signature",
            hint="copy the signature files too, or ask the vendor for them",
        )
    signatures = [files.read(name, limit=MAX_SIGNATURE_BYTES) for name in names]
    held = [
        (key, next(filter(partial(key.verify, content=sums_bytes), signatures), None))
        for key in trusted.keys
    ]
    verified = [(key, signature) for key, signature in held if signature is not None]
    _require_enough(files, names, trusted.tally(key for key, _ in verified))
    return verified


def _require_enough(files: ReleaseFiles, names: Sequence[str], tally: Tally) -> None:
    if tally:
        return
    sums_name, listed = files.shown(SUMS_NAME), ", ".join(map(printable, names))
    if tally.signed:
        raise UntrustedError(
            f"{sums_name}: expected signatures by {tally.threshold} of "
            f"{len(tally.signed + tally.unsigned)} keys, got {len(tally.signed)}: {tally}; "
            f"signature files: {listed}",
            hint="copy the missing signature files too; or the vendor's people have not all signed",
        )
    given = [key.key8 for key in tally.unsigned]
    many = f"signatures by {tally.threshold} of the keys" if tally.threshold > 1 else ""
    raise UntrustedError(
        f"{sums_name}: expected {many or 'a signature by key'} {', '.join(given)}, got none that "
        f"holds; signature files: {listed}",
        hint=_untrusted_hint(given, names),
    )


def _untrusted_hint(given: Sequence[str], names: Sequence[str]) -> str:
    """Say what is most likely, judged by the names of the signature files, which prove nothing."""
    before, after = signature_name("*").split("*")
    named = [printable(name.removeprefix(before).removesuffix(after)) for name in names]
    if set(given) & set(named):
        return f"{SUMS_NAME} or its signature was changed: copy both again from their source"
    return (
        f"probably another key than the vendor's was given: {', '.join(given)}, but the signature "
        f"files are called after {', '.join(named)}; compare your key's fingerprint (sha256 of its "
        "DER form) with what the vendor told you; or somebody else signed this"
    )


def _signature_names(files: ReleaseFiles) -> list[str]:
    names = fnmatch.filter(files.names(), signature_name("*"))
    if len(names) > _MAX_SIGNATURES:
        raise MalformedError(
            f"{files.shown()}: expected at most {_MAX_SIGNATURES} signature files, got {len(names)}"
        )
    return names
