"""How a pass runs. The engine `eager` calls the model's modules as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from orthrus import DraftPass, KVCache, MaskDescription, RowState
from orthrus_transformers.model.attention_hook import AttentionState, Form
from orthrus_transformers.model.short_convolutions import CachedInputs, find_convolutions, mask_for
from orthrus_transformers.model.views import View


@dataclass(frozen=True, eq=False)
class Pass:
    """Describe one pass over R rows of n tokens, before which lengths [R] are committed.

    token_ids [R, n], or as many as there are before `drafted`: they are joined where they are needed in one piece. Of a
    pass with `around` only the anchors [R, 1] are given, and lengths count them.
    """

    token_ids: Tensor
    lengths: Tensor
    extent: int  # the highest slot of all, plus 1
    last: int  # how many of the n columns, counted from the last but `unused`, are projected onto the vocabulary
    slots: Tensor | None = None  # [R, n], of a prefill; None: those that follow the committed ones
    rows: Tensor | None = None  # [R]; None: all rows of the cache
    kind: Literal["causal", "block"] = "causal"
    view: View | None = None  # None: the model's own attention
    positions: Tensor | None = None  # [R, n]; None: the slots. A row's spare columns come first, at its anchor's
    drafted: Tensor | None = None  # [R, m]: the last m of the n tokens; None: token_ids holds them all
    unused: int = 0  # last columns that are not projected
    around: DraftPass | None = None  # makes the tokens of the anchors, and something of the logits
    room: Tensor | None = None  # [R], if there is `around`

    @property
    def parts(self) -> list[Tensor]:
        """Return the tokens as they were given, side by side."""
        return [self.token_ids] if self.drafted is None else [self.token_ids, self.drafted]

    @property
    def width(self) -> int:
        """Return n, the tokens of a row."""
        return self.around.width if self.around else sum(part.shape[1] for part in self.parts)

    def joined(self) -> Tensor:
        """Return all tokens [R, n]."""
        return self.token_ids if self.drafted is None else torch.cat(self.parts, dim=1)

    def placed(self) -> Tensor:
        """Return the slot of each token [R, n]."""
        if self.slots is not None:
            return self.slots
        columns = torch.arange(self.width, device=self.lengths.device)
        if self.positions is None:
            return self.lengths[:, None] + columns
        # Spare columns, which come first, go to the slots behind the others': slots are distinct in a row.
        last = self.positions[:, -1:] - self.lengths[:, None]  # [R, 1]
        return self.lengths[:, None] + (columns + last + 1) % len(columns)

    @property
    def kept(self) -> int | slice:
        """Return the columns that are projected, as models take them."""
        return slice(self.width - self.unused - self.last, self.width - self.unused) if self.unused else self.last

    @property
    def state(self) -> RowState:
        """Return what a pass with `around` is made of."""
        assert self.room is not None, "a pass with something around it is told the rows' room"
        return RowState(self.lengths, self.token_ids[:, 0], self.room)

    def made(self, around: DraftPass) -> Pass:
        """Return the pass itself, without what stands around it."""
        return replace(
            self,
            token_ids=around.tokens(self.state),
            lengths=self.lengths - 1,
            positions=around.positions(self.state) if around.spare else None,
            around=None,
            room=None,
        )


class Engine(Protocol):
    """Run passes of one model over one cache."""

    def run(self, one: Pass) -> Tensor:
        """Return the logits [R, last, V], or what `around` makes of them; leave keys and values in the cache."""

    def report(self) -> Mapping[str, Any]:
        """Return what the engine is and what it holds, for those who measure."""


class PastKeyValues:
    """Be what a transformers model calls its `past_key_values`: a KVCache, and the one length it may ask for."""

    is_compileable = True

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.length = 0  # of the longest row, on the host

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of them."""
        return self.cache.update(keys, values, layer)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the slots before the pass; positions are given, so models ask without using it."""
        return self.length


class EagerEngine:
    """Call the model's modules; form: which form its layers take (compiled: in the narrow passes of a cycle)."""

    def __init__(
        self, model: Any, cache: KVCache, state: AttentionState, max_length: int | None, form: Form = "own"
    ) -> None:
        self.form = form
        self._model = model
        self._cache = cache
        self.past = PastKeyValues(cache)
        self._state = state
        self._max_length = max_length
        self._convolves = bool(find_convolutions(model))
        self._stand_in = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)  # for a mask

    def run(self, one: Pass) -> Tensor:
        """Run the pass; columns whose slot lies beyond the model's context are scratch, and any position does."""
        if one.around is not None:
            return one.around.result(one.state, self.run(one.made(one.around)))
        slots = one.placed()
        extent = self._cache.place(slots, one.extent, one.rows)
        positions = slots if one.positions is None else one.positions
        self._state.begin(MaskDescription(one.kind, positions, one.lengths, extent))
        token_ids = one.joined()
        rows, columns = token_ids.shape
        self.past.length = one.extent - columns
        uncompiled = one.slots is not None or one.view is not None  # prefills, and what is not the model's own
        self._state.form = "own" if uncompiled and self.form == "compiled" else self.form
        self._state.view, self._state.inputs = one.view, CachedInputs(self._cache, positions)
        self._state.prefill = one.slots is not None
        try:
            logits: Tensor = self._model(
                input_ids=token_ids,
                position_ids=self._within(positions, extent),
                attention_mask=mask_for(self._convolves, self._stand_in.expand(rows, 1, columns, extent)),
                past_key_values=self.past,
                use_cache=True,
                logits_to_keep=one.kept,
            ).logits
        finally:
            self._state.form, self._state.view, self._state.inputs = "own", None, None
            self._state.prefill = False
        return logits

    def _within(self, positions: Tensor, extent: int) -> Tensor:
        """Return positions that the model has; extent: of the slots that any replay of this pass may reach."""
        if self._max_length is None or extent <= self._max_length:
            return positions
        return positions.clamp(max=self._max_length - 1)

    def report(self) -> Mapping[str, Any]:
        """Return the form of the layers."""
        return {"layers": self.form}
