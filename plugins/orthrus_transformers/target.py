"""The target `transformers`. B: rows, n: width of a draft, V: size of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from orthrus import Context, KVCache, Step, TapPoint, Tokenizer, Turn
from orthrus.draft_states import ReadsDraftStates
from orthrus.optional import BoundsSlots, DraftPass, MovesRows, TapReader
from orthrus_transformers.engines.choice import make_engine
from orthrus_transformers.engines.engine import Engine, EngineSetup, EngineType
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.native import NativeEngine
from orthrus_transformers.guards import check_room, in_its_turn, on_its_device, says_when_memory_is_short
from orthrus_transformers.loading.generation_settings import differing_end_tokens, end_tokens, unapplied_settings
from orthrus_transformers.loading.provenance import provenance
from orthrus_transformers.model.block_weights import holds_blocks
from orthrus_transformers.model.compatibility import check_attention, check_layers, check_prefixes
from orthrus_transformers.model.context_length import ends_early, max_length
from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.experts import choose_experts
from orthrus_transformers.model.kept_check import KeptChecks, passing_parts
from orthrus_transformers.model.output_head import keep_wide_sums
from orthrus_transformers.model.own_model import OwnModel
from orthrus_transformers.model.pass_facts import PassReads, pass_identity
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.recurrent_layers import follow, make_states
from orthrus_transformers.model.reference import (
    chunk_logits,
    fingerprint,
    logits_from_scratch,
    plain_logits,
    weight_samples,
)
from orthrus_transformers.model.self_check import checked_windows, refusing
from orthrus_transformers.model.shards import group_of
from orthrus_transformers.model.taps import DraftStates, Taps
from orthrus_transformers.model.views import View
from orthrus_transformers.row_keys import RowKeys
from orthrus_transformers.steady_chunks import SteadyChunks
from orthrus_transformers.target_prefills import TargetPrefills
from orthrus_transformers.target_scoring import TargetScoring
from orthrus_transformers.target_tables import TargetTables

CAPABILITIES = frozenset({"logits", "views", "training", "hidden_states", "embeddings"})


class TransformersTarget(TargetTables, TargetPrefills, TargetScoring):
    """Run a Hugging Face causal language model over rows of different lengths.

    The token at position p of a row lives in slot p of the cache, so rows need no padding between their tokens and
    their own positions are true.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer | None,
        cache: KVCache,
        attention: Any,
        *,
        engine: str | EngineType = "auto",
        prefill_chunk: int = 512,
        steady_prefills: bool = False,
        limits: GraphLimits | None = None,
        threads: int | None = None,
        name: str | None = None,
        directory: Path | None = None,
        model_path: Path | None = None,
        ignored: Sequence[str] = (),
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Attach to the model.

        engine: the name of one of the table, or an engine's class itself. steady_prefills: see the option. threads: of
        the engine native; None: as many as torch takes. ignored: keys and tensors of the files that the user leaves
        out. directory: what the model was loaded from, converted if it had to be; model_path: as the user has it.
        notify: called with a sentence if texts end before the model's context does, if its files ask for what is not
        applied, and if passes could be captured and are not.
        """
        choose_experts(model.config, model.dtype)
        check_layers(model)
        check_attention(model, attention)
        trained = CAPABILITIES - {"training"} if holds_blocks(model) else CAPABILITIES  # blocks have no gradients
        self.capabilities = trained | ({"tokenizer"} if tokenizer else set())
        self.name = name or str(model.config.model_type)
        self.directory = directory
        self.model_path = model_path
        self._ignored = tuple(ignored)
        self.vocabulary_size = int(model.config.get_text_config().vocab_size)
        self.max_length = max_length(model)
        self.stop_token_ids = end_tokens(model, directory)
        self.device, self.dtype = cast(torch.device, model.device), cast(torch.dtype, model.dtype)
        self.tokenizer = tokenizer
        self._model = model
        self._cache = cache
        self.max_slots = cache.max_slots if isinstance(cache, BoundsSlots) else None
        steady = SteadyChunks(attention.capabilities) if steady_prefills else None
        self._chunk, self.steady_chunks, self.turn = prefill_chunk, steady, Turn()
        self.group = group_of(model)
        # Ranks need not gather logits then, and a captured pass finds the largest itself: the host launches less.
        self.scores_choices = self.group is not None or self.device.type == "cuda"
        self.moves_rows = isinstance(cache, MovesRows) and cache.moves_rows
        self._row_keys = RowKeys(cache)
        self.restores_prefixes = self._row_keys.restores
        check_prefixes(model, self.restores_prefixes)
        self._views: dict[str, View] = {}
        self._state = state = PassState(attention, model.dtype, steady_prefills)
        self._own = OwnModel(model, state)
        self.recurrent = make_states(model)
        self.marks_states = self.recurrent is not None
        self.scores_ahead = self._launches_ahead(cache)
        self._taps = Taps(model, state)
        self._draft_states = DraftStates(model, state)
        with refusing(model.config.model_type):  # of several sizes there is not one
            self.hidden_size = int(model.config.get_text_config().hidden_size)
        self.layer_count = len(find_layers(model))
        notices: list[str] = []  # told behind the self-check, which may refuse the model
        setup = EngineSetup(
            model,
            cache,
            state,
            self.max_length,
            limits or GraphLimits(),
            threads=threads,
            recurrent=self.recurrent,
            notify=notices.append,
            announce=notify,
        )
        chosen = make_engine(engine, setup)
        keep_wide_sums(model)
        self._engine: Engine = chosen.eager
        keys = torch.float32 if isinstance(chosen, NativeEngine) else self.dtype
        kept = KeptChecks(directory if holds_blocks(model) else None, *passing_parts(chosen.report(), cache, attention))
        windows = checked_windows(self, self._own, state, kept)
        self._reads = PassReads.of_model(model, windows, keys, self.recurrent)
        self._engine = chosen
        files = (differing_end_tokens(directory), unapplied_settings(directory))
        for sentence in (ends_early(model), *notices, *files):
            if sentence:
                notify(sentence)

    @property
    def engine(self) -> Engine:
        """What runs the passes, as it was chosen at load; `report` says which it is."""
        return self._engine

    @property
    def state_dtype(self) -> torch.dtype | None:
        """The dtype in which recurrent layers scan tokens, whatever the model's is; None: there are none that do."""
        return None if self.recurrent is None else self.recurrent.scan_dtype

    @property
    def cache(self) -> KVCache:
        """What keeps the keys and values of all passes."""
        return self._cache

    def start(self, context: Context) -> None:
        """Make room in the cache for the context's rows; one decoding at a time is under way on a target.

        Raises InputError if a prompt and its answer may need more slots than the cache may have, or steady prefills.
        """
        check_room(context, self.max_slots)
        if self.steady_chunks is not None:
            self.steady_chunks.check(context)
        self.turn.begin(context)
        self._row_keys.start(self._model)
        self._cache.start(len(context.rows), self.device)
        if self.recurrent is not None:
            self.recurrent.start(len(context.rows))

    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the rows of the cache."""
        cast(MovesRows, self._cache).move_rows(sources)
        if self.recurrent is not None:
            self.recurrent.move_rows(sources)

    @in_its_turn
    def free_rows(self, context: Context, rows: Sequence[int]) -> None:
        """Let the cache hold nothing of rows that have ended, but for prefixes that it keeps for others."""
        self._row_keys.end(context, rows)

    def mark(self) -> None:
        """Let later calls of `keep` go back to what rows hold now."""
        if self.recurrent is not None:
            self.recurrent.mark()

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why the cache, or steady prefills, do not take rows that come to so many slots each; None: they do."""
        why = None if self.steady_chunks is None else self.steady_chunks.refusal(slots)
        return why or self._row_keys.refusal(slots)

    def restored(self, row: int) -> int:
        """Return how many leading tokens of a row's prompt were not passed over, as the cache held their keys."""
        return self._row_keys.restored(row)

    def tap(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """Hand the hidden states at these points of prefills and scored drafts to a reader; no points: to nobody.

        Raises BuildError for a point that the model does not have. Prefixes that were passed over with other points are
        forgotten.
        """
        self._taps.set(points, reader)
        self._row_keys.tap(points)

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def forward(
        self,
        context: Context,
        tokens: Tensor,
        positions: Tensor,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Pass over tokens [B, n] that follow each row's committed slots; return the logits [B, n, V] of all of them.

        positions [B, n]: one after the other from the anchor's; columns that a row does not use come first and repeat
        the anchor's, so that the others do not see them. view: the name of an attached one; None: the model's own
        attention. Keys and values stay in scratch slots, which the next pass overwrites.
        """
        self.turn.check(context)
        follow(self.recurrent, context)
        forward_pass = ForwardPass(
            token_ids=tokens,
            lengths=self._cache.lengths,
            extent=context.longest - 1 + tokens.shape[1],
            last=tokens.shape[1],
            kind=kind,
            view=None if view is None else self._view(view),
            positions=positions,
        )
        return self._run(forward_pass)

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def draft(
        self,
        context: Context,
        draft_pass: DraftPass,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return what a drafter makes of a pass after each row's committed tokens, all of it recorded as one.

        With the engine `graphed` the result is the recording's own tensor, which the next such pass writes over. Keys
        and values stay in scratch slots.
        """
        self.turn.check(context)
        follow(self.recurrent, context)
        forward_pass = ForwardPass(
            token_ids=context.anchors[:, None],
            lengths=context.lengths,
            extent=context.longest - 1 + draft_pass.width,
            last=draft_pass.width - 1,
            kind=kind,
            view=None if view is None else self._view(view),
            unused=1,
            draft_pass=draft_pass,
            room=context.room,
            taps=self._draft_states.buffer if isinstance(draft_pass, ReadsDraftStates) else None,
        )
        return self._run(forward_pass)

    def fingerprint(self) -> str:
        """Return what tells this model's weights from others, whatever dtype they are computed in."""
        return fingerprint(self.directory, self._model)

    def weight_samples(self) -> list[tuple[str, Tensor]]:
        """Return each weight's name with its values, or with its first ones."""
        return weight_samples(self._model)

    def keep(self, step: Step) -> None:
        """Keep the keys of every committed token but the anchor, which the next pass writes."""
        self._cache.keep(step.lengths - 1)
        if self.recurrent is not None:
            self.recurrent.keep(step.lengths - 1)

    @torch.no_grad()
    @in_its_turn
    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        """Return the logits [last, V] of the model's own forward: its own attention and masks, no cache.

        It shares no code with the passes above, so that it can be held against them.
        """
        with self.own_model() as model:
            return plain_logits(model, token_ids, last)

    def text_logits(self, token_ids: Sequence[int], chunk: int) -> Iterator[Tensor]:
        """Yield the logits [n, V] of the model's own forward along a text, n <= chunk at a time, over its own cache."""
        if self.recurrent is not None:
            yield from logits_from_scratch(self.logits, token_ids, chunk)
            return
        past: Any = None
        for start in range(0, len(token_ids), chunk):
            logits, past = self._chunk_logits(token_ids[start : start + chunk], past)
            yield logits

    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def _chunk_logits(self, token_ids: Sequence[int], past: Any) -> tuple[Tensor, Any]:
        with self.own_model() as model:
            return chunk_logits(model, token_ids, past)

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        """Return what `logits` is, over a copy of the very same weights that computes in another dtype.

        Raises BuildError if the device's memory does not hold the copy.
        """
        return self._own.widened(dtype)

    @contextmanager
    def own_model(self) -> Iterator[Any]:
        """Lend the model with the attention that it came with; afterwards passes go through the backend again."""
        with self._own.lent() as model:
            yield model

    def take_back(self) -> bool:
        """Route the model's attention through the backend again; return False if another target has it now."""
        return self._own.take_back()

    def provenance(self) -> str:
        """Return a sentence on what the model was loaded from, and how it was held against those files."""
        return provenance(self.name, self.directory, self._ignored)

    def pass_bytes(self, lengths: Sequence[int]) -> int:
        """Return the bytes of weights, keys and values that one pass over rows with this many tokens must read."""
        return self._reads.of(lengths)

    def weight_bytes(self) -> int:
        """Return the bytes of weights that one pass must read, those that other ranks hold included."""
        return self._reads.whole_weights

    def report(self) -> Mapping[str, Any]:
        """Return the form of the layers, and how many CUDA graphs are held in how many MiB."""
        return self._engine.report()

    def pass_identity(self) -> Mapping[str, Any]:
        """Return what decides how long a pass takes: the model's shape, its dtype, and what runs it."""
        return pass_identity(self._model, self._engine.report(), self._state.backend, self._cache)
