"""What travels with a release to its destination, beside what was read to judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bundler.added_files import present, read_added
from bundler.errors import BundleError, MalformedError
from bundler.publish.trust_versions import proven_versions
from bundler.release import MAX_SIGNATURE_BYTES, TrustedRelease, signature_name
from bundler.signing.keys import PublicKey
from bundler.sums import SUMS_NAME
from bundler.trust import TRUST_FOLDER, root_name

# Of files that decide nothing, no more than this is read into memory and copied on.
MAX_CARRIED_BYTES = 64 << 20
_Read = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Travelling:
    """What of the files beside a release travels, and what does not.

    Attributes:
        carried: Content by path.
        left: Why a file does not hold, or cannot be read, by its path.
    """

    carried: Mapping[str, bytes]
    left: Mapping[str, BundleError]


NOTHING = Travelling(carried={}, left={})


def carry_along(release: TrustedRelease, note: Callable[[str], None]) -> TrustedRelease:
    """Read all that travels with a release and holds, so that it can be put where the release goes.

    Args:
        release: The one that goes there.
        note: Told of what does not travel, and why.
    """
    found = travelling(release)
    for problem in found.left.values():
        note(f"{problem}; it is not copied")
    return replace(release, carried=found.carried)


def travelling(release: TrustedRelease) -> Travelling:
    """Read and judge what lies beside a release, for readers who ask for other keys, or tools.

    That is: the versions of the trust file that the operator's proves, and those that lead to it;
    and what the keys that are trusted left, also those that need not have signed. Where keys were
    given, nothing proves a trust file, so none travels.
    """
    carried, left = dict(release.signature_files), dict[str, BundleError]()
    try:
        versions = proven_versions(release.trust, release.files)
    except BundleError as error:
        left[TRUST_FOLDER] = error
    else:
        carried |= {_root_path(number): content for number, content in versions.contents.items()}
        left |= {_root_path(number): problem for number, problem in versions.problems.items()}
    room = MAX_CARRIED_BYTES - sum(map(len, carried.values()))
    for path, read in _added(release):
        try:
            content = read()
        except BundleError as error:
            left[path] = error
            continue
        room -= len(content)
        if room < 0:
            shown = release.files.shown(path)
            problem = f"expected at most {MAX_CARRIED_BYTES} bytes of such files, got more"
            left[path] = MalformedError(f"{shown}: {problem} with those before it")
            break
        carried[path] = content
    return Travelling(carried=carried, left=left)


def _root_path(version: int) -> str:
    return f"{TRUST_FOLDER}/{root_name(version)}"


def _added(release: TrustedRelease) -> Iterator[tuple[str, _Read]]:
    """Give what there is by its path, each read and judged when it is asked for."""
    others = [key for key in release.trust.signers.keys if key not in release.signers]
    names = set(release.files.names())
    for key in others:
        if signature_name(key.key8) in names:
            yield signature_name(key.key8), partial(_read_signature, release, key)
    for key, added in present(release, names, (*release.signers, *others)):
        yield added.name, partial(read_added, release, key, added)


def _read_signature(release: TrustedRelease, key: PublicKey) -> bytes:
    name = signature_name(key.key8)
    content = release.files.read(name, limit=MAX_SIGNATURE_BYTES)
    if not key.verify(content, release.sums_bytes):
        shown = release.files.shown(name)
        raise MalformedError(f"{shown}: expected key {key.key8}'s signature of {SUMS_NAME}")
    return content
