"""The keys that rows hold in a cache: when they are begun and given back, and which come from earlier texts.

Hidden states that a drafter reads are kept with them, as it reads those of every token. W: numbers of a token's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from orthrus import Context, KVCache, Row, TapPoint
from orthrus.optional import BoundsRows, SharesPrefixes, TracksRows
from orthrus_transformers.weight_versions import weight_versions


class RowKeys:
    """Tell a cache where rows begin and end, and let it restore and keep the keys of their prefixes, if it can."""

    def __init__(self, cache: KVCache) -> None:
        self._tracks = cache if isinstance(cache, TracksRows) else None
        self._shares = cache if isinstance(cache, SharesPrefixes) and cache.shares_prefixes else None
        self._bounds = cache if isinstance(cache, BoundsRows) else None
        self._restored: dict[int, int] = {}  # tokens, by row
        self._weights: object = None  # versions of the weights that prefixes were computed with
        self._points: tuple[TapPoint, ...] = ()  # at which states of all prefixes are kept

    @property
    def restores(self) -> bool:
        """Whether rows may have leading tokens from earlier texts."""
        return self._shares is not None

    def restored(self, row: int) -> int:
        """Return how many leading tokens a row has from earlier texts."""
        return self._restored.get(row, 0)

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why the cache does not hold rows that come to so many slots each; None: it does."""
        return None if self._bounds is None else self._bounds.refusal(slots)

    def start(self, model: Any) -> None:
        """Forget the prefixes of earlier decodings if the model's weights have changed since the last one began."""
        if self._shares is not None and self._weights != (weights := weight_versions(model)):
            self._shares.forget_prefixes()
            self._weights = weights

    def tap(self, points: Sequence[TapPoint]) -> None:
        """Keep hidden states at these points from now on, and forget prefixes that lack them."""
        if points and tuple(points) != self._points and self._shares is not None:
            self._shares.forget_prefixes()
        self._points = tuple(points)

    def write_states(self, states: Tensor) -> None:
        """Keep the states [R, n, W] of a pass, if rows may have leading tokens from it."""
        if self._shares is not None:
            self._shares.write_states(states)

    def read_states(self, row: int) -> Tensor:
        """Return the states [count, W] of the leading tokens that a row has from earlier texts, one at least."""
        assert self._shares is not None, "else it has none"
        return self._shares.read_states(row, self._restored[row])

    def begin(self, context: Context, rows: Sequence[int]) -> list[int]:
        """Begin rows anew; return how many leading tokens of each one's prompt are held, at least one less than all."""
        if self._tracks is not None:
            self._tracks.begin_rows(rows, [context.rows[row].slots for row in rows])
        if self._shares is None:
            return [0] * len(rows)
        prompts = [context.rows[row].prompt for row in rows]
        held = [self._shares.adopt_prefix(row, prompt[:-1]) for row, prompt in zip(rows, prompts, strict=True)]
        self._restored |= dict(zip(rows, held, strict=True))
        return held

    def offer_prompts(self, context: Context, rows: Sequence[int]) -> None:
        """Keep the keys of prompts that were passed over, for those that begin alike."""
        if self._shares is not None:
            for row in rows:
                self._shares.offer_prefix(row, context.rows[row].prompt)

    def end(self, context: Context, rows: Sequence[int]) -> None:
        """Hold nothing of rows that have ended, but for what prompts that begin alike can have of them."""
        for row in rows if self._shares is not None else ():
            assert self._shares is not None, "it was asked"
            self._shares.offer_prefix(row, _written(context.rows[row]))
        if self._tracks is not None:
            self._tracks.end_rows(rows)


def _written(row: Row) -> Sequence[int]:
    """Return the tokens whose keys a row that ends has: all but the newest, and none before the prompt is through."""
    return [*row.prompt, *row.output[:-1]] if row.output else ()
