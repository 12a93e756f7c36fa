"""Drafters that draft something: trained in less than a minute on the toy language, in each published format.

In `tests`, `python -m support.trained_drafters dflash|eagle3 DIRECTORY` trains one and prints its tokens per cycle.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from orthrus.drafter_models.fit import TargetSizes as DFlashSizes
from orthrus.drafter_models.fit import TargetSizes as Eagle3Sizes
from orthrus_dflash.layouts import read_config as read_dflash
from orthrus_dflash.model import DFlashModel
from orthrus_dflash.options import DFlashOptions
from orthrus_dflash.weights import expected_shapes as dflash_shapes
from orthrus_dflash.weights import read_weights as read_dflash_weights
from orthrus_eagle3.layouts import read_config as read_eagle3
from orthrus_eagle3.model import Eagle3Model
from orthrus_eagle3.options import Eagle3Options
from orthrus_eagle3.weights import PREFIXES
from orthrus_eagle3.weights import expected_shapes as eagle3_shapes
from orthrus_eagle3.weights import read_weights as read_eagle3_weights
from support.toy import MODEL, VOCABULARY, answered

Format = Literal["dflash", "eagle3"]
HIDDEN, LAYERS, MASK, SLOTS = 64, 3, 126, 112
KNOWN = (0, *range(2, 101))  # of the drafter `eagle3`: the tokens of the language
LENGTH, BLOCK = 4, 8
STEPS: dict[Format, int] = {"dflash": 300, "eagle3": 160}  # some 16 s of one core each
LAYER = {
    "attention_bias": False,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
}
DFLASH: dict[str, Any] = {
    **LAYER,
    "architectures": ["DFlashDraftModel"],
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "num_target_layers": LAYERS,
    "dflash_config": {"block_size": BLOCK, "mask_token_id": MASK, "target_layer_ids": [0, 1, 2]},
}
EAGLE3: dict[str, Any] = {
    "speculators_model_type": "eagle3",
    "draft_vocab_size": len(KNOWN),
    "eagle_aux_hidden_state_layer_ids": [0, 1, 2],
    "norm_before_residual": True,
    "transformer_layer_config": {**LAYER, "model_type": "llama", "num_hidden_layers": 1},
}


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of the target padded to one length, tokens [N, n], with its states at each boundary [N, n, k, h].

    The last of them is after the final norm, the one before it before the norm.
    """

    tokens: Tensor
    lengths: Tensor
    states: Tensor
    embed: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]

    def taps(self, rows: Tensor, taps: tuple[int | str, ...]) -> Tensor:
        """Return what a drafter reads of texts [R, n, T h]."""
        chosen = [-1 if tap == "final" else int(tap) for tap in taps]
        return torch.cat([self.states[rows, :, boundary] for boundary in chosen], dim=-1)


@cache
def texts() -> Texts:
    """Return the target's answers with what it computed of them."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**json.loads((MODEL / "config.json").read_text(encoding="utf-8")))
    target = Qwen3ForCausalLM(config).eval()
    weights = {name: tensor for name, tensor in load_file(MODEL / "model.safetensors").items() if "_diff" not in name}
    target.load_state_dict(weights, strict=False)
    target.tie_weights()
    rows = [torch.tensor([*prompt, *answer])[:SLOTS] for prompt, answer in answered()]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    before: list[Tensor] = []
    target.model.norm.register_forward_pre_hook(lambda module, args: before.append(args[0]))
    with torch.no_grad():
        *entering, final = target(tokens, output_hidden_states=True).hidden_states
    states = torch.stack([*entering, before[0], final], dim=2)
    table = target.get_input_embeddings().weight.detach()
    return Texts(tokens, torch.tensor([len(row) for row in rows]), states, table.__getitem__, lambda x: x @ table.T)


class Trainable:
    """A drafter of one format whose tensors are trained: how it is made, fed and asked."""

    def __init__(self, kind: Format, config: Any, tensors: dict[str, Tensor], held: Texts) -> None:
        self.kind, self.config, self.tensors, self.texts = kind, config, tensors, held

    @property
    def drafts(self) -> int:
        """Return how many tokens it drafts."""
        return BLOCK - 1 if self.kind == "dflash" else LENGTH

    def logits(self, rows: Tensor, anchors: Tensor, *, teach: bool) -> tuple[Tensor, Tensor]:
        """Return drafts [R, n] and logits [R, n, V] after anchors [R] of texts [R]; teach: chains follow the truth."""
        held = self.texts
        width, zeros = int(anchors.max()), torch.zeros_like(anchors)
        taps = held.taps(rows, self.config.taps)[:, :width]
        store: Any
        if self.kind == "dflash":
            model = DFlashModel(self.config, self.tensors)
            store = functional(model.new_store(len(rows), SLOTS + BLOCK))
            model.feed(store, taps, zeros, anchors)
            return model.draft(store, held.tokens[rows, anchors], anchors, held.embed, held.head)
        chain = Eagle3Model(self.config, self.tensors)
        store = functional(chain.new_store(len(rows), SLOTS + LENGTH))
        chain.feed(store, taps, held.tokens[rows, 1 : width + 1], zeros, anchors, held.embed)
        truth = targets(held, rows, anchors, LENGTH)
        choose = (lambda logits, step: truth[:, step].clamp(min=0)) if teach else None
        return chain.draft(store, anchors, held.embed, LENGTH, choose=choose)


def functional(store: Any) -> Any:
    """Return the store with writes that leave old buffers as they are, so that gradients flow through them."""

    def write(layer: int, keys: Tensor, values: Tensor, slots: Tensor, rows: None = None) -> None:
        index = slots[:, None, :, None].expand(keys.shape)
        store.keys[layer] = store.keys[layer].scatter(2, index, keys)
        store.values[layer] = store.values[layer].scatter(2, index, values)

    store.write = write
    return store


def targets(held: Texts, rows: Tensor, anchors: Tensor, count: int) -> Tensor:
    """Return the tokens after anchors [R, count]; -100 beyond a text's end."""
    places = anchors[:, None] + torch.arange(1, count + 1)
    tokens = held.tokens[rows[:, None], places.clamp(max=held.tokens.shape[1] - 1)]
    return torch.where(places < held.lengths[rows, None], tokens, -100)


def train(
    kind: Format,
    directory: Path,
    values: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    steps: int | None = None,
    rows: int = 64,
    seed: int = 0,
) -> Path:
    """Train a drafter, less than a minute on a CPU, and write its checkpoint into a new directory; return it.

    values: its config, if not the usual one; options: those that it is trained with, and needs.
    """
    directory.mkdir(parents=True)
    values = values or (DFLASH if kind == "dflash" else EAGLE3)
    (directory / "config.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    config, held = _config(kind, directory, **(options or {})), texts()
    drafter = Trainable(kind, config, _fresh(kind, config, seed), held)
    trained = [tensor.requires_grad_() for tensor in drafter.tensors.values() if tensor.is_floating_point()]
    steps = steps or STEPS[kind]
    optimizer = torch.optim.AdamW(trained, lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    first = len(held.tokens) // 5  # those before are for measuring
    for _ in range(steps):
        chosen = torch.randint(first, len(held.tokens), (rows,), generator=generator)
        share = torch.rand(rows, generator=generator)
        anchors = (1 + share * (held.lengths[chosen] - 3)).long()
        truth = targets(held, chosen, anchors, drafter.drafts)
        logits = drafter.logits(chosen, anchors, teach=True)[1]
        known = truth if kind == "dflash" else torch.where(torch.isin(truth, torch.tensor(KNOWN)), truth, -100)
        loss = cross_entropy(logits.flatten(0, 1), known.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    prefix = PREFIXES["speculators"] if kind == "eagle3" else ""
    outer = ("fc.", "norm.", "lm_head.", "d2t", "t2d", "layers.")
    stored = {
        (name if kind == "dflash" or name.startswith(outer) else prefix + name): tensor.detach()
        for name, tensor in drafter.tensors.items()
    }
    save_file(stored, directory / "model.safetensors")
    return directory


@torch.no_grad()
def tokens_per_cycle(kind: Format, directory: Path, count: int = 16, **options: Any) -> float:
    """Return how many tokens a cycle a drafter with these options wins on texts that it was not trained on."""
    config = _config(kind, directory, **options)
    read = read_dflash_weights if kind == "dflash" else read_eagle3_weights
    held = texts()
    drafter = Trainable(kind, config, read(directory, config, torch.float32, "cpu"), held)
    rows = torch.arange(count)
    anchors, ends = torch.full_like(rows, 20), held.lengths[rows] - 2
    won = cycles = 0
    while bool((anchors < ends).any()):
        rows, anchors, ends = (tensor[anchors < ends] for tensor in (rows, anchors, ends))
        drafts = drafter.logits(rows, anchors, teach=False)[0]
        right = (drafts == targets(held, rows, anchors, drafter.drafts)).long().cumprod(1).sum(1)
        won, cycles = won + int((right + 1).sum()), cycles + len(rows)
        anchors = anchors + right + 1
    return won / cycles


def _config(kind: Format, directory: Path, **options: Any) -> Any:
    if kind == "dflash":
        return read_dflash(directory, DFlashSizes(HIDDEN, VOCABULARY, LAYERS), DFlashOptions(source="", **options))
    return read_eagle3(directory, Eagle3Sizes(HIDDEN, VOCABULARY, LAYERS), Eagle3Options(source="", **options))


def _fresh(kind: Format, config: Any, seed: int) -> dict[str, Tensor]:
    """Return new tensors: norms of ones, matrices that keep the size of what goes through them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = dflash_shapes(config) if kind == "dflash" else eagle3_shapes(config)
    tensors = {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * shape[1] ** -0.5
        for name, shape in shapes.items()
    }
    if kind == "eagle3":
        tensors["d2t"] = torch.tensor(KNOWN) - torch.arange(len(KNOWN))
    return tensors


if __name__ == "__main__":
    form: Any = sys.argv[1]
    print(tokens_per_cycle(form, train(form, Path(sys.argv[2]))))  # noqa: T201
