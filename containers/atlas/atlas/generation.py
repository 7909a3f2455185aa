"""The words of an answer: drawn by a digest over the weights and the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_WORDS = (
    "amber",
    "anchor",
    "autumn",
    "basin",
    "beacon",
    "birch",
    "border",
    "bridge",
    "canal",
    "candle",
    "cedar",
    "clover",
    "copper",
    "coral",
    "cotton",
    "delta",
    "desert",
    "eagle",
    "ember",
    "falcon",
    "fern",
    "field",
    "forest",
    "garden",
    "glacier",
    "granite",
    "harbor",
    "hazel",
    "heron",
    "hollow",
    "island",
    "ivory",
    "jasper",
    "juniper",
    "kernel",
    "lagoon",
    "lantern",
    "linen",
    "maple",
    "marble",
    "meadow",
    "mesa",
    "mirror",
    "morning",
    "needle",
    "north",
    "oasis",
    "ocean",
    "orchard",
    "otter",
    "pebble",
    "pepper",
    "pillar",
    "pine",
    "prairie",
    "quarry",
    "raven",
    "ribbon",
    "river",
    "saddle",
    "silver",
    "summit",
    "timber",
    "willow",
)
_MARK = "[stand-in]"
_SHORTEST = 12
_SPREAD = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated text, token by token (here a token is a word), and why it ended."""

    tokens: tuple[str, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        """The tokens as one string."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Generator:
    """Gives the same words for the same weights and request, others for any other."""

    weights: bytes

    def answer(self, request: bytes, choice: int, limit: int, stop: tuple[str, ...]) -> Answer:
        """Make one answer.

        Args:
            request: All of the request on which the answer shall depend.
            choice: Number of the answer among those asked for.
            limit: Most tokens; at least 1.
            stop: Texts before which the answer ends.
        """
        seed = self.weights + hashlib.sha256(request).digest() + choice.to_bytes(4, "little")
        draws = hashlib.shake_256(seed).digest(_SHORTEST + _SPREAD + 1)
        length = _SHORTEST + draws[0] % _SPREAD
        words = [_MARK, *(_WORDS[draw % len(_WORDS)] for draw in draws[1:length])]
        tokens = [word if place == 0 else f" {word}" for place, word in enumerate(words[:limit])]
        cut = _cut("".join(tokens), stop)
        if cut is not None:
            return Answer((cut,) if cut else (), "stop")
        return Answer(tuple(tokens), "length" if limit < len(words) else "stop")


def count_tokens(text: str) -> int:
    """Count a text's tokens as this server does: its words."""
    return len(text.split())


def _cut(text: str, stop: tuple[str, ...]) -> str | None:
    ends = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(ends)] if ends else None
