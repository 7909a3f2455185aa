"""What verifying one path showed: all of it, never just the first fault."""

from __future__ import annotations

from dataclasses import dataclass, field

from bundler.errors import ContentError, printable
from bundler.events import Emit, ignore
from bundler.faults import Fault
from bundler.manifest import Image
from bundler.sizes import size_text
from bundler.verify.scope import EVERYTHING, Scope

_COPY = "copy what differs again from its source; if it stays, it was changed after signing"
_NOTHING = "nothing"
_REMOVE = "remove what is extra: nobody signed it"


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing whose every byte was compared with what was signed; ``size`` is in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The judgement on one path. Truthy when all is well.

    Attributes:
        path: What was verified, as it was given.
        kind: ``release``, ``bundle``, ``checkpoint``, ``extracted bundle`` or
            ``extracted checkpoint``.
        release: Name and version of the release.
        signatures: The ``key8`` of each key that vouches for it.
        checked: What was read whole and compared.
        unread: What was not read, but compared by size and structure.
        scope: What was asked for; all, where it names nothing.
        news: That the release brings a newer trust file; None where it does not.
        absent: Archives that are not here, where that is allowed.
        extra: What is here and not signed, where that is allowed; it was not read.
        expired: Why the release is stale, where that was allowed; None for one that is not.
        faults: Everything that differs from what was signed.
    """

    path: str
    kind: str
    release: str
    signatures: tuple[str, ...]
    checked: tuple[Checked, ...]
    absent: tuple[str, ...]
    extra: tuple[str, ...]
    expired: str | None
    faults: tuple[Fault, ...]
    unread: tuple[Checked, ...] = ()
    scope: Scope = EVERYTHING
    news: str | None = None

    def __bool__(self) -> bool:
        return not self.faults

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know though it is no fault: a line each."""
        told = tuple(text for text in (self.expired, self.news) if text is not None)
        unread = sum(item.size for item in self.unread)
        some = (f"NOT CHECKED: {size_text(unread)} of content was not read",) * bool(self.unread)
        only = (f"only {self.scope} was checked",) * bool(self.scope.archive)
        absent = (f"{name}: not here, so not checked" for name in self.absent)
        extra = (f"{name}: not signed, and not read" for name in self.extra)
        return (*told, *some, *only, *absent, *extra)

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        return {
            "path": self.path,
            "kind": self.kind,
            "ok": bool(self),
            "release": self.release,
            "signatures": list(self.signatures),
            "checked": [{"name": item.name, "size": item.size} for item in self.checked],
            "unread": [{"name": item.name, "size": item.size} for item in self.unread],
            "only": str(self.scope) or None,
            "absent": list(self.absent),
            "extra": list(self.extra),
            "expired": self.expired,
            "newerTrust": self.news,
            "faults": [_fault_to_dict(fault) for fault in self.faults],
        }

    def raise_for_faults(self) -> None:
        """Raise where anything differs.

        Raises:
            ContentError: There are faults; the message has a line for each.
        """
        if not self.faults:
            return
        lines = [str(fault) for fault in self.faults]
        if len(lines) > 1:
            lines.insert(0, f"{self.path}: {len(lines)} faults")
        extra = [fault.expected == _NOTHING for fault in self.faults]
        hints = [_COPY] * (not all(extra)) + [_REMOVE] * any(extra)
        raise ContentError("\n".join(lines), hint="; ".join(hints))


@dataclass(slots=True, kw_only=True)
class Findings:
    """Collects what the checks of one path find.

    Attributes:
        strict: Whether what is not signed is a fault, wherever it lies.
        require_all: Whether an absent archive is a fault.
        scope: What is compared.
        images: Those of the release, whose archives the bundle must hold.
        emit: Told of progress.
    """

    strict: bool = False
    require_all: bool = False
    scope: Scope = EVERYTHING
    images: tuple[Image, ...] = ()
    emit: Emit = ignore
    checked: list[Checked] = field(default_factory=list)
    unread: list[Checked] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def report(
        self,
        path: str,
        kind: str,
        release: str,
        *,
        signatures: tuple[str, ...] = (),
        expired: str | None = None,
        news: str | None = None,
    ) -> Report:
        """Give the judgement that all of them come to; the arguments as for ``Report``."""
        return Report(
            path=path,
            kind=kind,
            release=release,
            signatures=signatures,
            checked=tuple(self.checked),
            unread=tuple(self.unread),
            scope=self.scope,
            absent=tuple(self.absent),
            extra=tuple(self.extra),
            expired=expired,
            news=news,
            faults=tuple(self.faults),
        )

    def add_checked(self, name: str, size: int) -> None:
        """Tell what was compared: read, unless only a quick look was asked for."""
        (self.unread if self.scope.quick else self.checked).append(Checked(name, size))

    def add_extra(self, archive: str, path: str | None, kind: str, *, fault: bool = False) -> None:
        """Tell of something that is not signed; ``fault`` where that is never allowed."""
        if fault or self.strict:
            self.faults.append(Fault(archive=archive, path=path, expected=_NOTHING, got=kind))
        else:
            self.extra.append(printable(archive if path is None else path))

    def add_absent(self, archive: str, size: int, *, fault: bool = False) -> None:
        """Tell of an archive that is not here; ``fault`` where it must be."""
        if fault or self.require_all:
            expected = f"a file of {size} bytes"
            self.faults.append(Fault(archive=archive, expected=expected, got=_NOTHING))
        else:
            self.absent.append(archive)


def _fault_to_dict(fault: Fault) -> dict[str, object]:
    return {
        "archive": printable(fault.archive),
        "path": None if fault.path is None else printable(fault.path),
        "part": fault.part,
        "offset": fault.offset,
        "volume": None if fault.volume is None else printable(fault.volume),
        "expected": printable(fault.expected),
        "got": printable(fault.got),
    }
