"""Which versions of a trust file travel with a release: those that the operator's own proves."""

from __future__ import annotations

from dataclasses import dataclass, field

from bundler.errors import BundleError, MalformedError, UntrustedError
from bundler.release_files import ReleaseFiles
from bundler.signing.tuf_roots import Root
from bundler.trust import (
    TRUST_FOLDER,
    Trust,
    read_next,
    read_version,
    require_next,
    require_same,
    require_signed,
    versions_in,
)

# Of all that are read again together, some hundred; to prove a MiB of them takes seconds.
MAX_CHAIN_BYTES = 512 << 10


@dataclass(slots=True)
class Versions:
    """Versions of a trust file that lie in one folder.

    Attributes:
        contents: What travels, by version.
        problems: Why a file there does not hold, or cannot be read, by the version of its name.
    """

    contents: dict[int, bytes] = field(default_factory=dict)
    problems: dict[int, BundleError] = field(default_factory=dict)
    _room: int = field(default_factory=lambda: MAX_CHAIN_BYTES)

    def take(self, root: Root) -> None:
        """Let a proven one travel; MalformedError where all together become too long."""
        self._room -= len(root.content)
        if self._room < 0:
            raise MalformedError(
                f"{root.name}: expected at most {MAX_CHAIN_BYTES} bytes of trust files, got more"
            )
        self.contents[root.version] = root.content


def proven_versions(trust: Trust, files: ReleaseFiles) -> Versions:
    """Give every version that the operator's proves, and those that lead to it.

    The operator's and those that judged are never taken from what is there now: somebody may have
    changed that since. A version below is taken if the one above is signed by its holders, too.

    Args:
        trust: What ``catch_up`` gave; where keys were given, nothing is proven, and none travels.
        files: Of the release.

    Raises:
        BundleError: The folder cannot be listed, or holds too many versions.
    """
    found = Versions()
    if trust.given is None:
        return found
    judged = (trust.given, *trust.newer)
    found.contents |= {root.version: root.content for root in trust.newer}
    folder = files.inside(TRUST_FOLDER)
    if folder is None:
        return found
    versions = versions_in(folder)
    before: Root | None = None
    for root in judged:
        if root.version in versions:
            _hold(found, folder, root, before)
        before = root
    _go_down(found, folder, trust.given, [item for item in versions if item < trust.given.version])
    _go_up(found, folder, judged[-1], [item for item in versions if item > judged[-1].version])
    return found


def _hold(found: Versions, folder: ReleaseFiles, root: Root, before: Root | None) -> None:
    """Hold what lies there against a version that judged."""
    found.contents[root.version] = root.content
    try:
        there = read_version(folder, root.version)
        require_same(root, there)
        require_signed(there, there)
        if before is not None:
            require_signed(there, before)
    except BundleError as error:
        found.problems[root.version] = error
        return
    if before is None:  # the operator's, which may have fewer signatures than the vendor's
        found.contents[root.version] = there.content


def _go_down(found: Versions, folder: ReleaseFiles, given: Root, versions: list[int]) -> None:
    above = given
    for version in reversed(versions):
        try:
            require_next(folder, version, above.version)
            root = read_version(folder, version)
            require_signed(root, root)
            _require_leads(root, above)
            found.take(root)
        except BundleError as error:
            found.problems[version] = error
            return
        if above is given:
            _hold_to_lower(found, folder, given, root)
        above = root


def _require_leads(root: Root, above: Root) -> None:
    try:
        require_signed(above, root)
    except UntrustedError as error:
        raise UntrustedError(f"{root.name}: does not lead to yours: {error}") from error


def _hold_to_lower(found: Versions, folder: ReleaseFiles, given: Root, lower: Root) -> None:
    """Require of the copy of the operator's version, too, that who has the lower can follow."""
    if given.version not in found.contents or given.version in found.problems:
        return
    try:
        require_signed(read_version(folder, given.version), lower)
    except BundleError as error:
        found.problems[given.version] = error
        found.contents[given.version] = given.content


def _go_up(found: Versions, folder: ReleaseFiles, newest: Root, versions: list[int]) -> None:
    for version in versions:
        try:
            newest = read_next(folder, newest, version)
            found.take(newest)
        except BundleError as error:
            found.problems[version] = error
            return
