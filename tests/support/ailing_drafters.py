"""Drafters of each published format and layout with one mistake each in their files or their config, for the doctor.

In `tests`, `python -m support.ailing_drafters "LAYOUT FORMAT: MISTAKE" DIRECTORY` writes one beside config and prompts.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import yaml
from safetensors.torch import load_file, save_file

from support.published import edit, renamed
from support.released import plain_base
from support.toy import VOCABULARY, prompts
from support.trainable import LETTERS, put_tokenizer
from support.trained_drafters import DFLASH, EAGLE3, KNOWN, Format, train

Layout = Literal["z-lab", "SafeAILab", "speculators"]
MARKS = "".join(LETTERS[token] for token in (101, 102, 103))  # outside of the language: after them it is left
# Turns a text round: with marks before a prompt, and not behind it, the language is spoken. Twice is as if never.
TEMPLATE = "{% for one in messages %}{{ one['content'][::-1] }}{% endfor %}"
SHUFFLED = "".join(random.Random(0).sample(LETTERS, len(LETTERS)))  # another tokenizer's letters
DFLASH_VALUES = {**DFLASH, "dflash_config": {**DFLASH["dflash_config"], "target_layer_ids": [0, 1]}}
EAGLE3_VALUES = {**EAGLE3, "eagle_aux_hidden_state_layer_ids": [1, 2]}
# What an odd drafter was trained with, all of which its options have to say; a mistake leaves one of them out.
ODD: dict[Format, dict[str, Any]] = {
    "dflash": {
        "boundaries": [2, 3],
        "final_norm": False,
        "is_causal": True,
        "sample_from_anchor": True,
        "position_offset": 1,
    },
    "eagle3": {"boundaries": [0, 3], "final_norm": False, "norm_output": True, "norm_before_residual": False},
}


@cache
def trained(kind: Format, *, odd: bool = False) -> tuple[dict[str, Any], Any]:
    """Return config and tensors of a drafter, in z-lab's layout or that of speculators; trained once a process."""
    values = DFLASH_VALUES if kind == "dflash" else EAGLE3_VALUES
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in ODD[kind].items()}
    with TemporaryDirectory() as folder:
        directory = train(kind, Path(folder) / "drafter", values, options if odd else None)
        return values, load_file(directory / "model.safetensors")


def write_drafter(directory: Path, layout: Layout, kind: Format, *, odd: bool = False) -> Path:
    """Write a trained drafter into a new directory, in a layout."""
    values, tensors = trained(kind, odd=odd)
    if kind == "dflash" and layout == "speculators":
        values = _as_speculators(values)
    elif layout == "SafeAILab":
        layer = {key: value for key, value in values["transformer_layer_config"].items() if key != "model_type"}
        ids = values["eagle_aux_hidden_state_layer_ids"]
        values = {**layer, "draft_vocab_size": len(KNOWN), "eagle_aux_hidden_state_layer_ids": ids}
        tensors = renamed(tensors, False)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    save_file(tensors, directory / "model.safetensors")
    return directory


def _as_speculators(values: dict[str, Any]) -> dict[str, Any]:
    inner = values["dflash_config"]
    outside = ("architectures", "num_target_layers", "dflash_config")
    return {
        "speculators_model_type": "dflash",
        "aux_hidden_state_layer_ids": [number + 1 for number in inner["target_layer_ids"]],
        "block_size": inner["block_size"],
        "mask_token_id": inner["mask_token_id"],
        "draft_vocab_size": VOCABULARY,
        "transformer_layer_config": {key: value for key, value in values.items() if key not in outside},
    }


@dataclass(frozen=True)
class Ward:
    """A folder with a target, a drafter, prompts and a config, in which mistakes are planted."""

    folder: Path
    config: dict[str, Any]

    @property
    def file(self) -> Path:
        """Write the config; return its file."""
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.config), encoding="utf-8")
        return path

    @property
    def prompts(self) -> Path:
        """Return the file of prompts."""
        return self.folder / "prompts.jsonl"

    @property
    def drafter(self) -> Path:
        """Return the directory of the drafter."""
        return self.folder / "drafter"

    @property
    def target(self) -> Path:
        """Return the directory of the target."""
        return self.folder / "target"


def admit(folder: Path, kind: Format, layout: Layout, *, odd: bool = False) -> Ward:
    """Lay a healthy drafter out with all that decodes by it."""
    plain_base(folder / "target")
    put_tokenizer(folder / "target", template=TEMPLATE)
    write_drafter(folder / "drafter", layout, kind, odd=odd)
    write_prompts(folder / "prompts.jsonl")
    drafter: dict[str, Any] = {"name": kind, "source": str(folder / "drafter"), **(ODD[kind] if odd else {})}
    if kind == "eagle3":
        drafter |= {"length": 4}
        drafter = {"layer_ids": "boundaries", "norm_before_residual": True, **drafter}  # as speculators' config says
    config = {
        "target": {
            "name": "transformers",
            "source": str(folder / "target"),
            "dtype": "float32",
            "device": "cpu",
            "engine": "fused",
            "chat": False,
        },
        "attention": {"name": "sdpa"},
        "cache": {"name": "static"},
        "drafter": drafter,
        "verifier": {"name": "consensus"},
        "stop": {"max_new_tokens": 40},
    }
    return Ward(folder, config)


def write_prompts(file: Path, form: Callable[[str], str] = str, count: int = 20) -> None:
    """Write prompts that no drafter was trained on; form: what is made of each."""
    lines = (form("".join(LETTERS[token] for token in prompt)) for prompt in prompts(count, 7))
    file.write_text("".join(json.dumps({"prompt": line}) + "\n" for line in lines), encoding="utf-8")


Plant = Callable[[Ward], object]


def option(**options: Any) -> Plant:
    """Return what writes options of the drafter, `...` for one that is left out."""

    def plant(ward: Ward) -> None:
        for name, value in options.items():
            ward.config["drafter"].pop(name, None) if value is ... else ward.config["drafter"].update({name: value})

    return plant


def key(**changes: Any) -> Plant:
    """Return what changes keys of the drafter's config.json; see `edit`."""
    return lambda ward: edit(ward.drafter, **changes)


def both(*plants: Plant) -> Plant:
    """Return what plants all of these."""
    return lambda ward: [plant(ward) for plant in plants]


def overflow(ward: Ward) -> None:
    """Let what the drafter projects be too large for float16, which it is to be computed in; its norm hides that."""
    file = ward.drafter / "model.safetensors"
    tensors = load_file(file)
    tensors["fc.weight"] = tensors["fc.weight"] * 1e5
    save_file(tensors, file)
    ward.config["drafter"]["dtype"] = "float16"


def exchange_tokenizer(ward: Ward) -> None:
    """Give the target another tokenizer; the right one came with the drafter."""
    put_tokenizer(ward.drafter, template=TEMPLATE)
    put_tokenizer(ward.target, letters=SHUFFLED, template=TEMPLATE)


def miss_template(ward: Ward) -> None:
    """Leave the chat template out of prompts that need it."""
    write_prompts(ward.prompts, lambda text: text[::-1] + MARKS)


def double_template(ward: Ward) -> None:
    """Apply the chat template to prompts that have it already."""
    write_prompts(ward.prompts, lambda text: MARKS[::-1] + text)
    ward.config["target"]["chat"] = True


@dataclass(frozen=True)
class Ailment:
    """A mistake, how it is planted, and the override that cures it."""

    name: str
    kind: Format
    layout: Layout
    plant: Plant
    cure: dict[str, Any]
    odd: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.layout} {self.kind}: {self.name}"

    def ward(self, folder: Path) -> Ward:
        """Write a drafter with the mistake, and all that decodes by it, into a folder."""
        ward = admit(folder, self.kind, self.layout, odd=self.odd)
        self.plant(ward)
        return ward

    def wanted(self, ward: Ward) -> dict[str, dict[str, Any]]:
        """Return the cure as the doctor is to write it: options by section."""
        section = next(iter(self.cure)).rpartition(".")[0] or "drafter"
        values = {key.rpartition(".")[2]: value for key, value in self.cure.items()}
        return {section: {key: str(ward.drafter) if value is ... else value for key, value in values.items()}}


def _of_both(kind: Format, layout: Layout) -> list[Ailment]:
    """Return the mistakes that any drafter may have."""
    return [
        Ailment("rotary base", kind, layout, key(**{_layer(layout, kind) + "rope_theta": 1e6}), {"rope_theta": 10000}),
        Ailment("dtype", kind, layout, overflow, {"dtype": "float32"}),
        Ailment("tokenizer", kind, layout, exchange_tokenizer, {"target.tokenizer": ...}),
        Ailment("template missing", kind, layout, miss_template, {"target.chat": True}),
        Ailment("template doubled", kind, layout, double_template, {"target.chat": False}),
        Ailment("final norm", kind, layout, option(final_norm=...), {"final_norm": False}, odd=True),
    ]


def _layer(layout: Layout, kind: Format) -> str:
    return "transformer_layer_config__" if layout == "speculators" else ""


def _of_dflash(layout: Layout) -> list[Ailment]:
    ids, mask = "dflash_config__target_layer_ids", "dflash_config__mask_token_id"
    high = key(**{ids: [1, 2]}) if layout == "z-lab" else option(layer_ids="outputs")
    low = option(layer_ids="boundaries") if layout == "z-lab" else key(aux_hidden_state_layer_ids=[0, 1])
    masked = both(key(**{mask if layout == "z-lab" else "mask_token_id": 5}), option(allow_ordinary_mask=True))
    causal = key(is_causal=True) if layout == "z-lab" else option(is_causal=True)
    return [
        Ailment("taps too high", "dflash", layout, high, {"boundaries": [1, 2]}),
        Ailment("taps too low", "dflash", layout, low, {"boundaries": [1, 2]}),
        Ailment("mask token", "dflash", layout, masked, {"mask_token_id": 126}),
        Ailment("causal", "dflash", layout, causal, {"is_causal": False}),
        Ailment("bidirectional", "dflash", layout, option(is_causal=...), {"is_causal": True}, odd=True),
        Ailment("position offset", "dflash", layout, option(position_offset=...), {"position_offset": 1}, odd=True),
        Ailment("shift", "dflash", layout, option(sample_from_anchor=...), {"sample_from_anchor": True}, odd=True),
        *_of_both("dflash", layout),
    ]


def _of_eagle3(layout: Layout) -> list[Ailment]:
    before = option(norm_before_residual=False)
    return [
        Ailment("taps too high", "eagle3", layout, option(layer_ids="outputs"), {"boundaries": [1, 2]}),
        Ailment("taps too low", "eagle3", layout, option(boundaries=[0, 1]), {"boundaries": [1, 2]}),
        Ailment("norm of the feature", "eagle3", layout, before, {"norm_before_residual": True}),
        Ailment("norm of the output", "eagle3", layout, option(norm_output=...), {"norm_output": True}, odd=True),
        *_of_both("eagle3", layout),
    ]


AILMENTS = [
    *_of_dflash("z-lab"),
    *_of_dflash("speculators"),
    *_of_eagle3("SafeAILab"),
    *_of_eagle3("speculators"),
]


if __name__ == "__main__":
    [asked] = [ailment for ailment in AILMENTS if str(ailment) == sys.argv[1]]
    print(asked.ward(Path(sys.argv[2])).file)  # noqa: T201
