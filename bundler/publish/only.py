"""Which parts of a release a run is about: the work of ``--only``. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.errors import MalformedError, printable

if TYPE_CHECKING:
    from bundler.publish.layout import Layout

_IMAGES, _CHECKPOINTS, _CHART = PARTS = ("images", "checkpoints", "chart")
# In front of the key of a model that is called like a part; no key has a colon.
_MODEL = "model:"


@dataclass(frozen=True, slots=True)
class Only:
    """The parts that were asked for, in the words of the command line.

    Attributes:
        words: Of ``PARTS``, and keys of models, whose checkpoints are meant: ``KEY``, or
            ``model:KEY`` for a model that is called like a part. None for everything.
    """

    words: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether images are to be brought, and their repositories."""
        return self._names(_IMAGES)

    @property
    def chart(self) -> bool:
        """Whether the chart is to be installed, with all that it needs in the cluster.

        What it needs elsewhere must be there, so it is looked at in any case.
        """
        return self._names(_CHART)

    @property
    def uses_registry(self) -> bool:
        """Whether anything is asked of the registry, and the bundle is needed here."""
        return self.images or self.chart

    @property
    def uses_store(self) -> bool:
        """Whether anything is asked of the bucket."""
        return set(self.words) != {_IMAGES}

    def checkpoints(self, layout: Layout) -> frozenset[str]:
        """Give the names of the checkpoints that are to be brought.

        Raises:
            MalformedError: A word is neither a part nor the key of a model that is deployed.
        """
        chosen = set(layout.checkpoints) if self._names(_CHECKPOINTS) else set()
        known = {item.model.key: item.model.checkpoint for item in layout.served}
        for word in self.words:
            if word in PARTS:
                continue
            key = word.removeprefix(_MODEL)
            if key not in known:
                raise MalformedError(
                    f"--only {printable(word)[:80]}: expected {', '.join(PARTS)} or the key of a "
                    "model that is deployed",
                    hint=f"its models: {', '.join(_shown(key) for key in sorted(known)) or 'none'}",
                )
            chosen.add(known[key])
        return frozenset(chosen)

    def _names(self, part: str) -> bool:
        return not self.words or part in self.words


def _shown(key: str) -> str:
    return f"{_MODEL}{key}" if key in PARTS else key


EVERYTHING = Only()
