"""Keys of which so many must have signed, told apart by their public halves and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bundler.errors import MalformedError
from bundler.signing.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Tally:
    """Who of a quorum's keys has signed something.

    Attributes:
        signed: Those that have, sorted by their ``key8``.
        unsigned: The others, sorted likewise.
        threshold: How many must have.
    """

    signed: tuple[PublicKey, ...]
    unsigned: tuple[PublicKey, ...]
    threshold: int

    def __bool__(self) -> bool:
        return not self.missing

    @property
    def missing(self) -> int:
        """How many signatures are still due."""
        return max(0, self.threshold - len(self.signed))

    def __str__(self) -> str:
        """Say for people who signed, and how many more of whom are needed."""
        signed = f"signed by {_names(self.signed)}" if self.signed else "signed by none of them"
        if not self.missing:
            return signed
        return f"{signed}; {self.missing} more of {_names(self.unsigned)} needed"


@dataclass(frozen=True, slots=True)
class Quorum:
    """Distinct keys, and how many of them must have signed; ``Quorum.of`` makes one.

    Attributes:
        keys: Sorted by their public halves' digests.
        threshold: From 1 to the number of keys; 1 where there are none, so that nothing will do.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    @classmethod
    def of(cls, keys: Iterable[PublicKey], threshold: int, *, name: str) -> Quorum:
        """Count each key once, under however many names or key ids it is given.

        Args:
            keys: In any order; none is allowed, and then nothing will do.
            threshold: How many of them must have signed.
            name: What to call them in an error.

        Raises:
            MalformedError: So many can never have signed.
        """
        given = list(keys)
        distinct = {key.spki_digest.hex: key for key in given}
        if not 1 <= threshold <= max(1, len(distinct)):
            twice = len(given) > len(distinct)
            raise MalformedError(
                f"{name}: expected a threshold from 1 to {len(distinct)}, the number of distinct "
                f"keys, got {threshold}",
                hint="one of the keys is given twice, and counts once" if twice else None,
            )
        return cls(tuple(distinct[identity] for identity in sorted(distinct)), threshold)

    def tally(self, signed: Iterable[PublicKey]) -> Tally:
        """Count who has signed; whoever is none of these keys does not count."""
        identities = {key.spki_digest for key in signed}
        return Tally(
            signed=tuple(key for key in self.keys if key.spki_digest in identities),
            unsigned=tuple(key for key in self.keys if key.spki_digest not in identities),
            threshold=self.threshold,
        )


def _names(keys: Iterable[PublicKey]) -> str:
    return ", ".join(key.key8 for key in keys)
