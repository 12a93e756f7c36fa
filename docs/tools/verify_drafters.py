"""Verify every drafter on one model: `python docs/tools/verify_drafters.py --prompts FILE ...` writes record and page.

Each recipe below decodes the same prompts, in float32 on the CPU, and every token is checked as `orthrus verify` does.
There are no published drafters of this model's sizes, so `dflash` and `eagle3` get random weights, and the draft model
is the target without its last layers. With `--page` the page alone is made again, of the record that is there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from orthrus import Plugins, read_prompts, summarize
from orthrus.config.compose import ConfigSource
from orthrus.config.schema import Config, load_config
from orthrus.drafter_models.fit import TargetSizes
from orthrus.files import write_whole
from orthrus.verification.certifier import Asked, Runs
from orthrus.verification.report import make_record
from orthrus_dflash.layouts import read_config as read_dflash
from orthrus_dflash.options import DFlashOptions
from orthrus_dflash.weights import expected_shapes as dflash_shapes
from orthrus_eagle3.layouts import read_config as read_eagle3
from orthrus_eagle3.options import Eagle3Options
from orthrus_eagle3.weights import expected_shapes as eagle3_shapes

DOCS = Path(__file__).parents[1]
RECIPES = DOCS.parent / "configs" / "recipes"
RECORD, PAGE = "evidence/verified-drafters.json", "results/verified-drafters.md"
MASK = 3  # `<repo_name>`, which no text has
KNOWN = 8192  # tokens of the model's 49,152 that the EAGLE-3 head can draft
MADE = {  # drafters that are made of the target; each with what the page says of it
    "draft_model": "the target without its last two layers",
    "dflash": "random weights",
    "eagle3": "random weights",
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {  # a label: the recipe, and what is set beside it
    "none": ("smollm2-plain", {}),
    "prompt_lookup": ("smollm2-prompt-lookup", {}),
    "suffix": ("smollm2-suffix", {"length": 8}),
    "transformers": ("smollm2-transformers-lookup", {}),
    "diffusion": ("smollm2-diffusion", {"block": 8}),
    "cascade": ("smollm2-cascade", {}),
    "replay": ("smollm2-plain", {"name": "replay", "block": 7, "acceptance": 0.7}),
    **{name: ("smollm2-plain", {"name": name, "source": name}) for name in MADE},
}
COLUMNS = {
    "drafter": lambda run: f"`{run['label']}`" + (f", {run['made']}" if run["made"] else ""),
    "batch": lambda run: f"{run['batch']}",
    "tokens": lambda run: f"{run['tokens']:,}",
    "drafts accepted": lambda run: f"{run['accepted']:,}",
    "tokens per cycle": lambda run: f"{run['tokens_per_cycle']:.2f}",
    "identical": lambda run: f"{run['identical']} of {run['prompts']}",
    "largest gap": lambda run: f"{run['largest_gap']:.3g}",
    "decoded again": lambda run: f"{run['oracle_checked']}",
    "result": lambda run: "certified" if run["passed"] else "**not certified**",
}
TEXT = """# Every drafter, verified

Every drafter on one model, in float32: the text has to be that of greedy decoding, token for token, whatever is
drafted. `python docs/tools/verify_drafters.py` decodes the prompts with each, checks every token against the model's
own choice as [`orthrus verify`](../explanation/lossless.md) does, and writes this page of what it found.

{model}, {prompts} prompts ({files}), at most {max_new_tokens} new tokens each.
{date}: {facts}.

<!-- not run: it takes a quarter of an hour -->
```console
$ {command}
```

In {result} every text is identical to that of greedy decoding.

{table}

There are no published drafters of this model's sizes. So `dflash` and `eagle3` have random weights here, and next to
nothing of theirs is accepted: a drafter that is wrong must not change the text either. How they are held to their
references is on [their page](../guide/published-drafters.md). "Drafts accepted" and "tokens per cycle" say that the
others were put to the test; they are no measure of speed. `replay` drafts what its decoder has answered before:
nothing here. "Decoded again" counts the prompts of a run that the naive oracle decoded as well: without a cache, one
token at a time.
"""


def write_drafters(directory: Path, folder: Path, *, known: int = KNOWN, mask: int = MASK, left_out: int = 2) -> None:
    """Write the drafters that are made of the model in a directory into folders named for them."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    sizes = TargetSizes(config["hidden_size"], config["vocab_size"], config["num_hidden_layers"])
    _write_shortened(directory, folder / "draft_model", config, sizes.layers - left_out)
    taps = [1, sizes.layers // 2, sizes.layers - 2]
    layer = _layer(config)
    dflash = {"block_size": 8, "mask_token_id": mask, "target_layer_ids": taps}
    own = {"architectures": ["DFlashDraftModel"], "model_type": "qwen3", "num_hidden_layers": 2}
    values = {**layer, **own, "num_target_layers": sizes.layers, "dflash_config": dflash}
    _write_config(folder / "dflash", values)
    read = read_dflash(folder / "dflash", sizes, DFlashOptions(source="", allow_ordinary_mask=True))
    save_file(_random(dflash_shapes(read)), folder / "dflash" / "model.safetensors")
    inner = {"transformer_layer_config": {**layer, "model_type": "llama", "num_hidden_layers": 1}}
    head = {"speculators_model_type": "eagle3", "draft_vocab_size": known, "norm_before_residual": True}
    _write_config(folder / "eagle3", {**head, "eagle_aux_hidden_state_layer_ids": taps, **inner})
    tensors = _random(eagle3_shapes(read_eagle3(folder / "eagle3", sizes, Eagle3Options(source=""))))
    tensors["d2t"] = torch.arange(known) * (sizes.vocabulary_size // known - 1)  # every so many-th token
    outer = ("fc.", "norm.", "lm_head.", "d2t")
    save_file(
        {name if name.startswith(outer) else f"layers.0.{name}": tensor for name, tensor in tensors.items()},
        folder / "eagle3" / "model.safetensors",
    )


def _layer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a drafter's layer that are those of the target's layers."""
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    fixed = {"attention_bias": False, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0}
    return {**{name: config[name] for name in names}, **fixed, "head_dim": size}


def _write_shortened(directory: Path, folder: Path, config: Mapping[str, Any], layers: int) -> None:
    """Write the model with its first layers only, and its tokenizer."""
    shutil.copytree(directory, folder, ignore=shutil.ignore_patterns("*.safetensors*", "orthrus.json", "config.json"))
    kinds = {name: config[name][:layers] for name in ("layer_types",) if config.get(name)}
    _write_config(folder, {**config, "num_hidden_layers": layers, **kinds})
    stored = [item for file in directory.glob("model*.safetensors") for item in load_file(file).items()]
    gone = tuple(f"model.layers.{layer}." for layer in range(layers, config["num_hidden_layers"]))
    kept = {name: tensor for name, tensor in stored if not name.startswith(gone)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def _write_config(folder: Path, values: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


def _random(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return norms of ones, and matrices that keep the size of what goes through them."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * shape[1] ** -0.5
        for name, shape in shapes.items()
    }


def read_recipe(plugins: Plugins, recipe: str, tokens: int, more: Mapping[str, Any]) -> Config:
    """Return a recipe with what all runs have in common."""
    common = {"stop": {"max_new_tokens": tokens}, "target": {"dtype": "float32", "device": "cpu"}}
    return load_config(RECIPES / f"{recipe}.yaml", [ConfigSource("verify_drafters", common | more)], plugins)


def planned(plugins: Plugins, folder: Path, batches: Sequence[int], tokens: int) -> Iterator[Asked]:
    """Yield the runs."""
    plain: Config | None = None
    for label, (recipe, drafter) in RUNS.items():
        given = {key: str(folder / value) if key == "source" else value for key, value in drafter.items()}
        config = read_recipe(plugins, recipe, tokens, {"drafter": given} if given else {})
        plain = plain or config  # the first run drafts nothing
        yield from (Asked(label, config, plain, batch) for batch in batches)


def measured(runs: Runs, asked: Asked) -> dict[str, Any]:
    """Return what a run cost and gained."""
    measures = [result.measures for result in runs.decode(asked.config, asked.batch, lambda _: None).results]
    return {
        "made": MADE.get(asked.label),
        "accepted": sum(sum(each.accepted_per_cycle) for each in measures),
        "tokens_per_cycle": summarize(measures).tokens_per_cycle.pooled,
    }


def verified(files: Sequence[Path], limit: int, batches: Sequence[int], tokens: int) -> dict[str, Any]:
    """Return the record of all runs."""
    torch.set_float32_matmul_precision("highest")
    plugins = Plugins.load()
    prompts = [(each.id, each.prompt) for file in files for each in read_prompts(file, limit)]
    runs = Runs(plugins, prompts, notify=say)
    with tempfile.TemporaryDirectory() as name:
        plain = read_recipe(plugins, "smollm2-plain", tokens, {})
        target: Any = runs.decoder(plain).target
        write_drafters(target.directory, Path(name))
        asked = list(planned(plugins, Path(name), batches, tokens))
        certificates, gains = [], []
        for run in asked:
            runs.prepare(run.config)
            runs.decode(run.config, run.batch, lambda _: None)
            certificates.append(runs.certify(run, 2))
            gains.append(measured(runs, run))
            say(f"{run.label}, batch {run.batch}: {certificates[-1].identical} of {len(prompts)}, {gains[-1]}")
    settings = {"model": source_of(plain), "prompt_files": [file.name for file in files], "prompts": len(prompts)}
    command = shlex.join(["python", "docs/tools/verify_drafters.py", *map(without_folder, sys.argv[1:])])
    record = make_record(command, {**settings, "max_new_tokens": tokens}, target.device, certificates).to_dict()
    record["runs"] = [run | gain for run, gain in zip(record["runs"], gains, strict=True)]
    return record


def source_of(config: Config) -> str:
    """Return the name of the model."""
    assert config.target is not None, "a recipe has a target"
    return Path(str(getattr(config.target.options, "source", config.target.entry.name))).name


def without_folder(word: str) -> str:
    """Return a word of the command line without the folder of a prompt file."""
    return Path(word).name if word.endswith(".jsonl") else word


def page(record: Mapping[str, Any]) -> str:
    """Return the page."""
    runs, settings = record["runs"], record["settings"]
    facts = [f"{key} {value}".replace("_", " ") for key, value in record["environment"].items()]
    same = sum(run["identical"] == run["prompts"] and run["passed"] for run in runs)
    lines = [[*COLUMNS], ["---"] * len(COLUMNS), *([cell(run) for cell in COLUMNS.values()] for run in runs)]
    return TEXT.format(
        **settings,
        files=", ".join(settings["prompt_files"]),
        date=record["date"],
        facts="; ".join(facts),
        command=record["command"],
        result=f"{same} of {len(runs)} runs",
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
    )


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Verify and write, or write the page alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    parser.add_argument("--limit", type=int, default=14, help="prompts of each file")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--page", action="store_true", help="make the page alone")
    given = parser.parse_args()
    if not given.page:
        if not given.prompts:
            parser.error("--prompts is missing")
        record = verified(given.prompts, given.limit, given.batches, given.tokens)
        write_whole(DOCS / RECORD, json.dumps(record, indent=1) + "\n")
    record = json.loads((DOCS / RECORD).read_text(encoding="utf-8"))
    write_whole(DOCS / PAGE, page(record))
    if not record["passed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
