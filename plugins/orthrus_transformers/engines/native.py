"""The engine `native`: on a CPU, a whole pass in one call of compiled kernels. R: rows, n: tokens of a row."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import AttentionBackend, BuildError, KVCache
from orthrus.optional import LendsBuffers
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import BlocksBeside, ForwardPass
from orthrus_transformers.model.block_weights import holds_blocks
from orthrus_transformers.model.pass_state import Form
from orthrus_transformers.model.shards import group_of
from orthrus_transformers.model.views import View
from orthrus_transformers.native.angles import AngleTable
from orthrus_transformers.native.description import NativeLayers, describe_layers, describe_model, layer_windows
from orthrus_transformers.native.fit import misfit
from orthrus_transformers.native.library import LayerStructure, PassStructure, load_library
from orthrus_transformers.native.tapped_pass import TappedPass
from orthrus_transformers.native.weights import FLOATS, MatrixFactory, NativeMatrix

REMEDY = "set engine=eager"
BLOCKS = "blocks"  # what weights in a GGUF file's own blocks are called


class NativeEngine:
    """The engine whose passes are calls of one C++ function: no Python, and nothing of torch, within a pass.

    A row's logits have the same bits whatever the other rows and columns of its pass are.
    """

    form: Form = "own"  # of views that are attached, whose weights it reads where they lie

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return what the kernels do not compute, or why there are none here."""
        reason = _misfit(setup)
        if reason is not None:
            return Obstacle(reason, REMEDY, _notice(setup, reason))
        try:
            load_library(setup.announce)
        except BuildError as error:
            return Obstacle(str(error), REMEDY, f"goes on without engine native, which {error}")
        return None

    @classmethod
    def make(cls, setup: EngineSetup) -> NativeEngine:
        """Return the engine; weights in blocks are laid out for the kernels now."""
        return cls(setup)

    def __init__(self, setup: EngineSetup) -> None:
        self._library = load_library(setup.announce)
        self._model, self._cache, self._state = setup.model, setup.cache, setup.state
        assert isinstance(setup.cache, LendsBuffers), "else there is an obstacle"
        self._buffers: LendsBuffers = setup.cache
        self._matrices = MatrixFactory(self._library)
        structure, self._held = describe_model(setup.model, self._matrices)
        self._shape = structure
        self._layers = describe_layers(setup.model, self._matrices)
        self._views: weakref.WeakKeyDictionary[View, NativeLayers] = weakref.WeakKeyDictionary()
        self._angles = AngleTable(setup.model.base_model.rotary_emb, setup.max_length)
        self._windows = layer_windows(setup.model)
        self._rounds = holds_blocks(setup.model)  # in a view's passes: what they say is only proposed
        self._rounded_head: NativeMatrix | None = None  # made when a view first needs it
        self._like = torch.empty(0)  # float32, on the CPU
        self.threads = setup.threads or torch.get_num_threads()
        _warn_of_spinning(self.threads, setup)
        self._decoder = self._library.orthrus_new_decoder(structure, self.threads)
        weakref.finalize(self, self._library.orthrus_delete_decoder, self._decoder)

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        """Return False: blocks are run after the draft."""
        return False

    @property
    def eager(self) -> Engine:
        """The engine itself: the self-check at load holds it against the model's own forward."""
        return self

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Run the pass; columns whose slot lies beyond the model's context are scratch, and any position does."""
        if forward_pass.draft_pass is not None:
            return forward_pass.drafted_of(self.run(forward_pass.without_draft_pass()))
        if forward_pass.beside is not None:
            return torch.cat([self.run(part) for part in forward_pass.apart()], dim=1)
        self._state.saw(self._windows)
        slots = forward_pass.placed().contiguous()
        rows, width = slots.shape
        numbers = _row_numbers(forward_pass, rows)
        extent = self._cache.place(slots, forward_pass.extent, forward_pass.rows)
        keys, values = self._buffers.lend(len(self._windows), self._like, self._shape.key_heads, self._shape.head_size)
        self._angles.hold(extent)
        columns = forward_pass.projected_columns
        logits = torch.empty(rows, columns.stop - columns.start, self._shape.vocabulary)
        tensors = _Tensors(
            forward_pass.joined().contiguous(),
            slots,
            forward_pass.placed_at(slots).contiguous(),
            numbers,
            logits,
            *_paths(forward_pass, slots),
            forward_pass.lengths.contiguous(),
        )
        structure = self._structure(forward_pass, tensors, keys, values)
        structure.first_projected = columns.start
        if forward_pass.view is not None and self._rounds:
            structure.rounded, structure.head = True, ctypes.pointer(self._head().structure)
        tapped = TappedPass.of(forward_pass, rows, width, len(self._windows))
        if tapped is not None:
            structure.taps, structure.tap_stride = tapped.addresses, tapped.states.shape[-1]
        self._library.orthrus_run(self._decoder, structure)
        if tapped is not None:
            tapped.hand_over()
        return logits

    def _structure(
        self, forward_pass: ForwardPass, tensors: _Tensors, keys: Sequence[Tensor], values: Sequence[Tensor]
    ) -> PassStructure:
        rows, width = tensors.tokens.shape
        addresses = ctypes.c_void_p * len(keys)
        self._addresses = [addresses(*(buffer.data_ptr() for buffer in buffers)) for buffers in (keys, values)]
        return PassStructure(
            layers=ctypes.cast(self._layers_of(forward_pass.view).structures, ctypes.POINTER(LayerStructure)),
            layer_count=len(self._windows),
            rows=rows,
            width=width,
            tokens=tensors.tokens.data_ptr(),
            slots=tensors.slots.data_ptr(),
            positions=tensors.positions.data_ptr(),
            row_numbers=tensors.row_numbers.data_ptr(),
            lengths=tensors.lengths.data_ptr(),
            paths=None if tensors.paths is None else tensors.paths.data_ptr(),
            ends=None if tensors.ends is None else tensors.ends.data_ptr(),
            block=forward_pass.kind == "block",
            projected=tensors.logits.shape[1],
            logits=tensors.logits.data_ptr(),
            keys=ctypes.cast(self._addresses[0], ctypes.c_void_p),
            values=ctypes.cast(self._addresses[1], ctypes.c_void_p),
            row_stride=keys[0].stride(0),
            head_stride=keys[0].stride(1),
            slots_held=keys[0].shape[2],
            cosine=self._angles.cosines.data_ptr(),
            sine=self._angles.sines.data_ptr(),
            angles=len(self._angles.cosines),
        )

    def _layers_of(self, view: View | None) -> NativeLayers:
        if view is None:
            return self._layers
        if view not in self._views:
            self._views[view] = describe_layers(self._model, self._matrices, view, self._rounds)
        return self._views[view]

    def _head(self) -> NativeMatrix:
        """Return the head of views' passes, in four bits."""
        if self._rounded_head is None:
            self._rounded_head = self._matrices.rounded_of_module(self._model.get_output_embeddings())
        return self._rounded_head

    def report(self) -> Mapping[str, Any]:
        """Return the form of the layers, how many threads run them, and in what the weights are."""
        weights = BLOCKS if holds_blocks(self._model) else str(self._model.dtype).removeprefix("torch.")
        return native_report(self._library.key, self.threads, weights)


def native_report(key: str, threads: int, weights: str) -> Mapping[str, Any]:
    """Return what an engine says of itself that runs a library's kernels; key: the library's; weights: their dtype."""
    return {"layers": "native", "threads": threads, "weights": weights, "library": key}


def parts_misfit(cache: KVCache, backend: AttentionBackend) -> str | None:
    """Return what of a cache and an attention backend the kernels do not do; None: nothing."""
    if not isinstance(cache, LendsBuffers) or _overrides(cache, "lend", ("place", "update")):
        return f"writes no cache {type(cache).__name__}, but those that lend their buffers (dynamic, static)"
    if not backend.capabilities.plain or _overrides(backend, "capabilities", ("attend", "prepare")):
        return (
            f"computes plain attention itself, as sdpa and eager do, and {type(backend).__name__} may compute another"
        )
    return None


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Tensors of one pass, which live as long as it runs."""

    tokens: Tensor  # [R, n]
    slots: Tensor  # [R, n]
    positions: Tensor  # [R, n]
    row_numbers: Tensor  # [R]
    logits: Tensor  # [R, projected, V]
    paths: Tensor | None  # [R, n, n] of a tree, or of blocks beside a draft: the slots seen, in the text's order
    ends: Tensor | None  # [R, n] of such blocks: the last position that each sees
    lengths: Tensor  # [R]


def _paths(forward_pass: ForwardPass, slots: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the slots that each column sees behind the committed ones [R, n, n], and the last position seen [R, n].

    Slots come in the order of the text. What lies beyond those that are seen is not read. None: those up to itself.
    """
    seen = forward_pass.seen()
    if seen is None:
        return None, None
    width = seen.shape[2]
    on_path = torch.where(seen, torch.arange(width), width).sort(dim=-1).values  # a path goes up by place
    paths = (forward_pass.lengths[:, None, None] + on_path)[..., : seen.shape[1]].contiguous()
    if forward_pass.blocks is None:
        return paths, None
    ends = forward_pass.lengths[:, None] - 1 + seen.sum(-1)  # the draft's columns before a block, and all of it
    return paths, ends.contiguous()


def _row_numbers(forward_pass: ForwardPass, rows: int) -> Tensor:
    return torch.arange(rows) if forward_pass.rows is None else forward_pass.rows.contiguous()


def _warn_of_spinning(threads: int, setup: EngineSetup) -> None:
    """Say that torch's own threads, after an operation on several of them, keep cores busy that the engine needs."""
    polite = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if threads > 1 and torch.get_num_threads() > 1 and not polite:
        setup.notify(
            "torch's waiting threads take cores from the engine native; set OMP_WAIT_POLICY=PASSIVE in the environment"
            " before torch is imported, as the command line does, or torch.set_num_threads(1) and target.threads"
        )


def _misfit(setup: EngineSetup) -> str | None:
    """Return what of a target the kernels do not do; None: nothing."""
    model = setup.model
    if model.device.type != "cpu":
        return f"needs a CPU, not {model.device.type}"
    if model.dtype not in FLOATS:
        dtype = str(model.dtype).removeprefix("torch.")
        return f"widens weights of 16 bits to float32, and computes with none in {dtype}"
    if group_of(model) is not None:
        return "runs no model that several processes share"
    what = misfit(model)
    if what is not None:
        return f"computes no {what}"
    return parts_misfit(setup.cache, setup.state.backend)


def _overrides(part: object, declared: str, methods: Sequence[str]) -> bool:
    """Tell whether a class has methods of its own, but inherits what it says of them from the class it derives from."""
    classes = type(part).__mro__
    known = next((index for index, kind in enumerate(classes) if declared in vars(kind)), 0)
    return any(method in vars(kind) for kind in classes[:known] for method in methods)


def _notice(setup: EngineSetup, reason: str) -> str | None:
    """Return what is said where `auto` goes on without the engine: blocks are slow elsewhere."""
    return f"goes on without engine native, which {reason}" if holds_blocks(setup.model) else None
