"""A target that is a lookup table: the next token's logits depend on the last few tokens. No neural network.

It goes through the same interfaces as any other target, and reads its past from the KV cache alone, so a cache that
keeps a rejected token, or a position that is off by one, changes its text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.turn import Turn
from orthrus.errors import BuildError, InputError
from orthrus.interfaces import KVCache, Tokenizer
from orthrus.optional import BoundsRows, MovesRows, TapReader, TracksRows
from orthrus.reference.cache import PlainCache
from orthrus.trees import MovesSlots, TreeObstacle, slots_obstacle
from orthrus.values import Draft, Prompt, Step, TappedStates, TapPoint


class Letters:
    """A tokenizer with one token a letter of an alphabet; chat templates do not exist here."""

    def __init__(self, alphabet: str, hidden: Sequence[int] = ()) -> None:
        self._alphabet = alphabet
        self._hidden = frozenset(hidden)

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Return the index of each letter; raise InputError for a letter that is not in the alphabet."""
        if not isinstance(prompt, str):
            raise InputError("this target takes text or token ids, not chat messages")
        foreign = [letter for letter in prompt if letter not in self._alphabet]
        if foreign:
            raise InputError(f"{foreign[0]!r} is not in the alphabet {self._alphabet!r}")
        return [self._alphabet.index(letter) for letter in prompt]

    def vocabulary(self) -> dict[str, int]:
        """Return the index of each letter."""
        return {letter: index for index, letter in enumerate(self._alphabet)}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the letters, without the stop letter."""
        return "".join(self._alphabet[token] for token in token_ids if token not in self._hidden)


class TableTarget:
    """Look the logits up in table [V, ..., V, V]: the last `order` tokens, oldest first, then the next token.

    Before the text there are tokens 0. A table [S, V] may have fewer rows than there are tokens, for large
    vocabularies: a token's row is its number modulo S.
    """

    capabilities = frozenset({"tokenizer", "logits", "hidden_states", "embeddings"})

    def __init__(
        self,
        table: Tensor,
        cache: KVCache,
        *,
        tokenizer: Tokenizer | None = None,
        stop_token_ids: Sequence[int] = (),
        max_length: int | None = None,
    ) -> None:
        self.vocabulary_size = table.shape[-1]
        self.max_length = max_length
        self.stop_token_ids = frozenset(stop_token_ids)
        self.device = table.device
        self.tokenizer = tokenizer
        self._order = table.dim() - 1
        self._back = torch.arange(self._order - 1, -1, -1, device=table.device)  # of the tokens that are looked at
        self._places = self.vocabulary_size**self._back  # [order] that each of them has in the table's first dimension
        self._table = table.reshape(-1, self.vocabulary_size)  # [V ** order, V]
        self._cache = cache
        self.hidden_size = self.layer_count = self._order
        self._points: tuple[TapPoint, ...] = ()
        self._reader: TapReader | None = None
        self._past = torch.zeros(0, 0, self._order, dtype=torch.int64)  # [R, n, order] of the last pass
        self.turn = Turn()
        self.moves_rows = isinstance(cache, MovesRows) and cache.moves_rows

    def start(self, context: Context) -> None:
        """Make room in the cache."""
        self.turn.begin(context)
        self._cache.start(len(context.rows), self.device)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the rows of the cache."""
        assert isinstance(self._cache, MovesRows)
        self._cache.move_rows(sources)

    def free_rows(self, context: Context, rows: Sequence[int]) -> None:
        """Let the cache hold nothing of these rows, if it can."""
        if isinstance(self._cache, TracksRows):
            self._cache.end_rows(rows)

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why the cache does not hold rows that come to so many slots each; None if it does."""
        return self._cache.refusal(slots) if isinstance(self._cache, BoundsRows) else None

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        """Pass over the prompts of some rows; return [B, 1, V], zeros for the others."""
        self.turn.check(context)
        if isinstance(self._cache, TracksRows):
            self._cache.begin_rows(rows, [context.rows[row].slots for row in rows])
        chosen = torch.tensor(rows, device=self.device)
        width = max(len(context.rows[row].prompt) for row in rows)
        slots = torch.arange(width, device=self.device).expand(len(rows), -1)
        logits = self.run_pass(context.tokens[chosen, :width], slots, width, chosen)  # [R, width, V]
        if self._reader is not None:
            starts, counts = torch.zeros_like(chosen), context.prompt_lengths[chosen]
            self._reader.prompt(TappedStates(self._tapped(), starts, counts, chosen), True)
        last = (context.prompt_lengths[chosen] - 1)[:, None, None].expand(-1, 1, self.vocabulary_size)
        everywhere = logits.new_zeros(len(context.rows), 1, self.vocabulary_size)
        return everywhere.index_copy(0, chosen, logits.gather(1, last))

    def score(self, context: Context, draft: Draft) -> Tensor:
        """Pass over the anchor and the draft; return [B, n + 1, V]."""
        self.turn.check(context)
        tokens = torch.cat([context.anchors[:, None], draft.tokens], dim=1)
        first = (context.lengths - 1)[:, None]  # [B, 1] the anchor's
        slots = first + torch.arange(tokens.shape[1], device=self.device)
        extent = context.longest + draft.tokens.shape[1]
        if draft.paths is None:
            logits = self.run_pass(tokens, slots, extent)
        else:
            logits = self.run_pass(tokens, slots, extent, None, first[..., None] + draft.paths.back(self._order))
        if self._reader is not None:
            self._reader.scored(self._tapped(), context.lengths - 1)
        return logits

    def tree_obstacle(self) -> TreeObstacle | None:
        """Return that the cache moves no slots, where that is so."""
        return slots_obstacle(self._cache)

    def keep_path(self, context: Context, order: Tensor) -> None:
        """Put an accepted path where a chain would be."""
        assert isinstance(self._cache, MovesSlots), "else there is an obstacle"
        self._cache.move_slots(context.lengths, order)

    def keep(self, step: Step) -> None:
        """Keep all but the anchor, which the next pass writes."""
        self._cache.keep(step.lengths - 1)

    def tap(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """Hand the states at these points to a reader; the table has `order` layers."""
        known = ["final", *range(self.layer_count + 1)]
        wrong = [point for point in points if point not in known]
        if wrong:
            raise BuildError(f"the tap {wrong[0]!r} is none of this table: it has {self.layer_count} layers")
        self._points, self._reader = tuple(points), reader

    def embed(self, tokens: Tensor) -> Tensor:
        """Return [B, n, order]: nothing but the token itself is known."""
        return self._states(tokens[..., None].expand(*tokens.shape, self.hidden_size), 0)

    def head(self, hidden: Tensor) -> Tensor:
        """Look the logits [B, n, V] up of states [B, n, order] after the last layer."""
        return self.look_up((hidden.round().long() - 1).clamp(min=0))

    def _tapped(self) -> Tensor:
        """Return the states [R, n, T order] of the last pass at all points, side by side."""
        return torch.cat([self._states(self._past, point) for point in self._points], dim=-1)

    def _states(self, past: Tensor, point: TapPoint) -> Tensor:
        """Return the states [..., order] at a point, of the last tokens: a layer adds the next older one.

        A token is there as its number and 1, and 0 where it is not known yet.
        """
        known = self.hidden_size if point == "final" else min(point + 1, self.hidden_size)
        hidden = (past + 1).double()
        hidden[..., : self.hidden_size - known] = 0
        return hidden

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        """Look up the last places of one sequence, without the cache."""
        padded = torch.tensor([0] * (self._order - 1) + list(token_ids), device=self.device)
        return self.look_up(padded.unfold(0, self._order, 1))[-last:]

    @property
    def cache(self) -> KVCache:
        """What it reads its past from."""
        return self._cache

    @property
    def table(self) -> Tensor:
        """The logits [V ** order, V] of every past."""
        return self._table

    def run_pass(
        self, tokens: Tensor, slots: Tensor, extent: int, rows: Tensor | None = None, past: Tensor | None = None
    ) -> Tensor:
        """Write tokens [R, n] into slots [R, n] and return the logits [R, n, V] after each; extent: the last slot + 1.

        rows [R]: None for all. past [R, n, order]: the slots that lead to each token, itself the last; None: those
        before its own.
        """
        self._cache.place(slots, extent, rows)
        states = tokens[:, None, :, None].double()  # [R, 1, n, 1]: the token itself is its key and its value
        stored, _ = self._cache.update(states, states, 0)
        past = slots[..., None] - self._back if past is None else past  # [R, n, order]
        seen = stored[:, 0, :, 0].gather(1, past.clamp(min=0).flatten(1)).long().view_as(past)
        self._past = seen.masked_fill(past < 0, 0)
        return self.look_up(self._past)

    def look_up(self, past: Tensor) -> Tensor:
        """Return [..., V] for the last tokens past [..., order]."""
        return self._table[(past * self._places).sum(-1) % len(self._table)]


def random_table(seed: int, alphabet: str = "abcd", order: int = 2, cache: KVCache | None = None) -> TableTarget:
    """Return a target of one letter a token; its text repeats itself soon, so drafts can be right.

    cache: what it reads its past from; None: a plain one.
    """
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn((len(alphabet),) * (order + 1), generator=generator, dtype=torch.float64)
    return TableTarget(table, cache or PlainCache(), tokenizer=Letters(alphabet))
