"""The prefills of a target: prompts of like length together, in chunks. R: rows of a group, V: vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from orthrus import Context, KVCache
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.guards import in_its_turn, on_its_device, says_when_memory_is_short
from orthrus_transformers.model.taps import Taps
from orthrus_transformers.prefill_groups import equal_groups, prefill_groups
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.row_keys import RowKeys
from orthrus_transformers.scored_ahead import PlainAhead
from orthrus_transformers.steady_chunks import SteadyChunks

NARROWEST = 32  # columns of a chunk of several prompts


class TargetPrefills(PlainAhead):
    """The passes over prompts, whole or with cycles of other rows between two chunks."""

    device: torch.device
    recurrent: RecurrentStates | None
    steady_chunks: SteadyChunks | None
    _cache: KVCache
    _chunk: int
    _row_keys: RowKeys
    _taps: Taps

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        """Pass over the prompts of some rows in chunks; return the logits [B, 1, V] after each one's last token.

        Raises InputError if another context has been started since.
        """
        *_, logits = self._prefill_chunks(context, rows)
        assert logits is not None, "the last chunk has logits"
        return logits

    def prefill_chunks(self, context: Context, rows: Sequence[int]) -> Iterator[Tensor | None]:
        """Prefill chunk by chunk: the last one yields what `prefill` returns, those before it None."""
        self._cache.keep(context.lengths - 1)  # the cycles between two chunks write behind the prompts
        chunks = self._prefill_chunks(context, rows, shared=True)
        while True:
            try:
                yield self._next_chunk(chunks)
            except StopIteration:
                return

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def _next_chunk(self, chunks: Iterator[Tensor | None]) -> Tensor | None:
        return next(chunks)

    def _prefill_chunks(self, context: Context, rows: Sequence[int], shared: bool = False) -> Iterator[Tensor | None]:
        """Pass over groups of prompts of similar length, one after the other, but for what the cache holds of them.

        shared: whether the rows of a group share the tokens of a chunk, as others wait for it.
        """
        held = self._row_keys.begin(context, rows)
        if self._taps.buffer is not None:
            self._taps.restored(rows, held, self._row_keys.read_states, self._chunk)
        new = [len(context.rows[row].prompt) - count for row, count in zip(rows, held, strict=True)]
        groups = prefill_groups(new, self.device.type) if self.recurrent is None else equal_groups(new)
        if self.steady_chunks is not None:
            groups = self.steady_chunks.groups(groups)
        everywhere: Tensor | None = None
        for number, group in enumerate(groups, start=1):
            chosen = [rows[index] for index in group]
            chunk = max(NARROWEST, self._chunk // len(chosen)) if shared else self._chunk
            if self.steady_chunks is not None:
                chunk = min(chunk, self.steady_chunks.columns(len(chosen)))
            starts = [held[index] for index in group]
            for logits in self._group_chunks(context, chosen, starts, min(chunk, self._chunk)):
                if logits is None:
                    yield None
                    continue
                self._row_keys.offer_prompts(context, chosen)
                if len(chosen) == len(context.rows):
                    everywhere = logits
                else:
                    if everywhere is None:
                        everywhere = logits.new_zeros(len(context.rows), *logits.shape[1:])
                    everywhere.index_copy_(0, torch.tensor(chosen).to(self.device, non_blocking=True), logits)
                yield everywhere if number == len(groups) else None

    def _group_chunks(
        self, context: Context, rows: Sequence[int], held: Sequence[int], chunk: int
    ) -> Iterator[Tensor | None]:
        """Pass over the prompts of some rows in chunks of so many columns; the last one yields logits [R, 1, V].

        held: of each row, the leading tokens that are left out. Columns are rolled so that every row's last token is in
        the last column, which alone is projected onto the vocabulary; the columns before a shorter row's first token
        fall on its scratch slots.
        """
        lengths = [len(context.rows[row].prompt) - count for row, count in zip(rows, held, strict=True)]
        width, before = max(lengths), max(held)
        which, first = torch.tensor([rows, held]).to(self.device, non_blocking=True)  # [R] each
        shift = width - (context.prompt_lengths[which] - first)  # [R]
        slots = first[:, None] + (torch.arange(width, device=self.device) - shift[:, None]) % width  # [R, width]
        known = context.tokens[which, : before + width]
        token_ids = known.gather(1, slots.clamp(max=known.shape[1] - 1))
        for start in range(0, width, chunk):
            self.turn.check(context)
            columns = slice(start, start + chunk)
            forward_pass = ForwardPass(
                token_ids=token_ids[:, columns],
                lengths=torch.zeros_like(which),
                extent=before + (width if min(lengths) < width else min(start + chunk, width)),
                last=1,
                slots=slots[:, columns],
                rows=None if len(rows) == len(context.rows) else which,
                taps=self._taps.buffer,
                first_row=rows[0] if list(rows) == list(range(rows[0], rows[0] + len(rows))) else None,
                begins=start == 0 and before == 0,
            )
            logits = self._run(forward_pass)  # [R, 1, V]
            last = start + chunk >= width
            if self._taps.buffer is not None:
                self._row_keys.write_states(self._taps.buffer.states[: len(which), -forward_pass.width :])
                taken = forward_pass.width, which, min(lengths) == width, last
                self._taps.prompt(shift, start, first, *taken)
            yield logits if last else None
