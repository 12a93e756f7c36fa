"""Drafters in published formats with the targets they were made for, and what the formats' own code computed with them:
`tests/data/tiny-*`, whose README says how it was made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

DATA = Path(__file__).parents[1] / "data"
SAME_WEIGHTS = {  # checkpoints that differ from another one by their config alone
    "drafter-full-speculators": "drafter-full",
    "drafter-sliding-noncausal": "drafter-sliding",
}
RENAMED = {  # those that differ from another one also by the names of the layer's tensors, and what they store besides
    "head-full": ("head-full-speculators-norm-before-residual", False),
    "head-reduced-speculators": ("head-reduced", True),
    "head-reduced-speculators-norm-before-residual": ("head-reduced", True),
}


@dataclass(frozen=True, eq=False)
class Published:
    """A folder of `tests/data` with a target, checkpoints of drafters, and what is expected of them."""

    folder: Path
    expected: dict[str, Any]
    tensors: dict[str, Tensor]
    target: Any

    def text(self, prompt: int) -> list[int]:
        """Return a prompt and the target's greedy tokens after it."""
        return list(self.expected["prompts"][prompt]["text"])

    def prompt_length(self, prompt: int) -> int:
        """Return how many tokens of a text are its prompt's."""
        return len(self.expected["prompts"][prompt]["prompt"])

    @cache  # noqa: B019  # as many as there are texts; the object is one of two that live as long as the process
    def boundaries(self, prompt: int) -> tuple[Tensor, ...]:
        """Return the states [n, h] at each boundary of a text; the last one after the final norm."""
        ids = torch.tensor([self.text(prompt)])
        with torch.no_grad():
            return tuple(states[0] for states in self.target(ids, output_hidden_states=True).hidden_states)

    def taps(self, prompt: int, taps: Sequence[int | Literal["final"]]) -> Tensor:
        """Return what a drafter is given of a text [n, taps * h]."""
        states = self.boundaries(prompt)
        return torch.cat([states[-1 if tap == "final" else tap] for tap in taps], dim=-1)

    @property
    def embed(self) -> Callable[[Tensor], Tensor]:
        """Return the target's embeddings."""
        return self.target.get_input_embeddings()  # type: ignore[no-any-return]

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """Return the target's head."""
        return self.target.get_output_embeddings()  # type: ignore[no-any-return]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return the target's hidden size, vocabulary and count of layers."""
        config = self.target.config
        return config.hidden_size, config.vocab_size, config.num_hidden_layers

    def checkpoint(self, name: str, into: Path) -> Path:
        """Write the checkpoint of this name into a new folder and return it."""
        return installed(self.folder, name, into)


def installed(folder: Path, name: str, into: Path) -> Path:
    """Write a checkpoint into a new folder, whole, and return it: of some only the config is stored."""
    directory = into / name
    shutil.copytree(folder / name, directory)
    if name in SAME_WEIGHTS:
        shutil.copy(folder / SAME_WEIGHTS[name] / "model.safetensors", directory)
    elif name in RENAMED:
        origin, embedded = RENAMED[name]
        tensors = renamed(load_file(folder / origin / "model.safetensors"), "speculators" in name)
        if embedded:
            target = load_file(folder / "target" / "model.safetensors")
            tensors["embed_tokens.weight"] = target["model.embed_tokens.weight"]
        save_file(tensors, directory / "model.safetensors")
    return directory


def renamed(tensors: dict[str, Tensor], to_speculators: bool) -> dict[str, Tensor]:
    """Return tensors of an EAGLE-3 drafter by the names of the other layout."""
    pair = ("midlayer.", "layers.0.") if to_speculators else ("layers.0.", "midlayer.")
    return {name.replace(*pair): tensor for name, tensor in tensors.items()}


def edit(directory: Path, **changes: Any) -> Path:
    """Change keys of a checkpoint's config, `section__key` for one below a section, and return the directory.

    A key that becomes `...` is taken out.
    """
    file = directory / "config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, name = key.split("__")
        holder = values
        for section in sections:
            holder = holder.setdefault(section, {})
        if value is ...:
            holder.pop(name, None)
        else:
            holder[name] = value
    file.write_text(json.dumps(values), encoding="utf-8")
    return directory


def accepted(drafts: list[int], truth: list[int]) -> int:
    """Return how many drafts agree with the text before the first that does not."""
    same = [draft == token for draft, token in zip(drafts, truth, strict=False)]
    return same.index(False) if False in same else len(same)


@cache
def published(name: Literal["tiny-dflash-qwen3", "tiny-eagle3-llama"]) -> Published:
    """Return a folder's content; its target is computed in float32 with eager attention, as the references were."""
    folder = DATA / name
    target = AutoModelForCausalLM.from_pretrained(folder / "target", attn_implementation="eager", dtype=torch.float32)
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return Published(folder, expected, load_file(folder / "expected.safetensors"), target.eval())
