"""Write the pages of docs/reference/parts, one a kind: every built-in part with its docstring, options and a recipe.

python docs/tools/part_pages.py --write

The texts are those of the classes that factories return, the tables what options say of themselves. Recipes stand
below; the tests of the docs validate each of them, and run the commands.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from orthrus import Plugins
from orthrus.config.recipes import shipped_configs
from orthrus.options import describe
from orthrus.registry.catalog import Entry
from orthrus.registry.plugins import GROUP

FOLDER = Path(__file__).parents[1] / "reference" / "parts"
NOTE = "<!-- made by docs/tools/part_pages.py -->"
TEXT = "aadccbhgedhfegad"  # what the table of the recipe says after "abc", greedily


@dataclass(frozen=True)
class Kind:
    """A kind of part: its page, and what stands at the head of it. base: the recipe that a part is put into."""

    file: str
    title: str
    intro: str
    base: str


KINDS: Mapping[str, Kind] = {
    "target": Kind(
        "targets",
        "Targets",
        "The model whose text is produced. A plugin adds one by"
        " [`register_targets`](../hooks.md#register_targetsregister); what it must do is a"
        " [Target](../hooks.md#target).",
        "smollm2-plain",
    ),
    "attention": Kind(
        "attention-backends",
        "Attention backends",
        "What computes attention in every layer. [Attention](../attention.md) says what each one can, and when to"
        " choose it. A plugin adds one by"
        " [`register_attention_backends`](../hooks.md#register_attention_backendsregister).",
        "smollm2-prompt-lookup",
    ),
    "cache": Kind(
        "caches",
        "Caches",
        "Where keys and values are kept. [Caches](../../explanation/caches.md) compares them. A plugin adds one by"
        " [`register_caches`](../hooks.md#register_cachesregister); what it must do is a"
        " [KVCache](../hooks.md#kvcache).",
        "smollm2-prompt-lookup",
    ),
    "drafter": Kind(
        "drafters",
        "Drafters",
        "What proposes tokens. [Which drafter when](../../results/which-drafter-when.md) has measurements,"
        " [Configuration](../configuration.md#options) more on each. A plugin adds one by"
        " [`register_drafters`](../hooks.md#register_draftersregister); what it must do is a"
        " [Drafter](../hooks.md#drafter).",
        "smollm2-plain",
    ),
    "verifier": Kind(
        "verifiers",
        "Verifiers",
        "What decides how much of a draft is kept. [Sampling](../sampling.md) explains them. A plugin adds one by"
        " [`register_verifiers`](../hooks.md#register_verifiersregister); what it must do is a"
        " [Verifier](../hooks.md#verifier).",
        "smollm2-sampling",
    ),
    "watcher": Kind(
        "watchers",
        "Watchers",
        "What is told of each step and of requests that have ended. Its name is a key of a config. A plugin adds one by"
        " [`register_watchers`](../hooks.md#register_watchersregister).",
        "table-prompt-lookup",
    ),
}
GPU = ("flash", "flash_attention_2", "flash_attention_3", "flash_attention_4", "split")
BASES: Mapping[tuple[str, str], str] = {  # of parts that need another one than their kind
    ("target", "table"): "table-prompt-lookup",
    ("cache", "static"): "smollm2-gpu",
    ("cache", "offloaded"): "qwen3-8b-shape",
    ("verifier", "consensus"): "smollm2-plain",
    **{("attention", name): "smollm2-gpu" for name in GPU},
}
OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {  # that a recipe shows, where they are required or worth it
    ("target", "table"): {"order": 2, "seed": 3},
    ("target", "transformers"): {"source": "path/to/model", "dtype": "bfloat16"},
    ("cache", "paged"): {"blocks": 4096, "prefixes": 1024},
    ("cache", "quantized"): {"codes": "int8", "group": 32},
    ("cache", "static"): {"slots": 512},
    ("drafter", "cascade"): {"drafters": [{"name": "suffix"}, {"name": "prompt_lookup"}]},
    ("drafter", "dflash"): {"source": "path/to/drafter", "block": 8},
    ("drafter", "diffusion"): {"view": "smollm2-135m-instruct", "block": "auto"},
    ("drafter", "draft_model"): {"source": "path/to/smaller-model", "length": 4},
    ("drafter", "eagle3"): {"source": "path/to/drafter", "length": 5},
    ("drafter", "prompt_lookup"): {"length": "auto"},
    ("drafter", "replay"): {"block": 8, "acceptance": 0.8},
    ("watcher", "trace"): {"file": "trace.jsonl", "overwrite": True},
}
ON_TABLE = [  # parts that a model without weights shows at work; what is typed beside their names
    *[("cache", name, "") for name in ("dynamic", "offloaded", "paged", "static")],
    *[("drafter", name, "") for name in ("none", "prompt_lookup", "replay", "suffix")],
    *[("verifier", name, "") for name in ("consensus", "coupled", "default")],
]


def built_in() -> Iterator[Entry]:
    """Yield the parts of the distribution's own plugins, by kind and name."""
    points = [point for point in entry_points(group=GROUP) if point.dist and point.dist.name == "orthrus-decoding"]
    origins = {point.name for point in points}
    yield from (entry for entry in Plugins.load().catalog if entry.kind in KINDS and entry.origin in origins)


def documented(entry: Entry) -> str:
    """Return the docstring of what a part's factory returns."""
    factory = entry.load_factory()
    made = factory if inspect.isclass(factory) else typing.get_type_hints(factory)["return"]
    first, *_ = typing.get_args(made) or (made,)  # of several by options the one that is usual
    return inspect.getdoc(first) or ""


def table(entry: Entry) -> list[str]:
    """Return the lines of a part's options; a part without options has none."""
    described = list(describe(entry.load_options()))
    if not described:
        return ["It has no options."]
    rows = [[f"`{each['name']}`", each["type"], _default(each), each["help"]] for each in described]
    lines = [["option", "type", "default", "meaning"], ["---"] * 4, *rows]
    return [f"<!-- options: {entry.kind} {entry.name} -->", *(f"| {' | '.join(line)} |" for line in lines)]


def _default(described: Mapping[str, Any]) -> str:
    return "required" if described["required"] else f"`{json.dumps(described['default'])}`"


def recipe(entry: Entry) -> list[str]:
    """Return a config that has the part, on top of a recipe that is shipped."""
    key = (entry.kind, entry.name)
    base, options = BASES.get(key, KINDS[entry.kind].base), OPTIONS.get(key, {})
    part = {entry.name: {**options}} if entry.kind == "watcher" else {entry.kind: {"name": entry.name, **options}}
    written = yaml.safe_dump(part, default_flow_style=True, sort_keys=False, width=10_000).strip()
    shown = written.removeprefix("{").removesuffix("}")
    shipped = sorted(name for name in shipped_configs() if "/" not in name and _names(name, entry))
    listed = ["", f"Recipes that have it: {', '.join(f'`{name}`' for name in shipped)}."] if shipped else []
    return ["", "```yaml", f"use: [{base}.yaml]", shown, "```", *listed]


def _names(config: str, entry: Entry) -> bool:
    """Return whether a shipped config, by what it writes itself, has the part."""
    values = yaml.safe_load(shipped_configs()[config].read_text(encoding="utf-8")) or {}
    if entry.kind == "watcher":
        return entry.name in values
    part = values.get(entry.kind)
    return isinstance(part, dict) and part.get("name") == entry.name


def section(entry: Entry) -> str:
    """Return a part's section."""
    text = "\n\n".join(textwrap.fill(" ".join(part.split()), 120) for part in documented(entry).split("\n\n"))
    lines = [f"## `{entry.name}`", "", _escaped(text), "", *table(entry), *recipe(entry)]
    commands = [more for kind, name, more in ON_TABLE if (kind, name) == (entry.kind, entry.name)]
    for more in commands:
        words = f"{entry.kind}.name={entry.name}{more}"
        command = f'orthrus run --config table-prompt-lookup --prompt "abc" stop.max_new_tokens=16 {words}'
        lines += ["", "```console", f"$ {command}", TEXT, "…", "```"]
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Return a docstring as Markdown shows it: shapes in brackets are no links."""
    return text.replace("[", "\\[").replace("*", "\\*")


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    entries = list(built_in())
    return {
        f"{kind.file}.md": "\n".join(
            [f"# {kind.title}", "", NOTE, "", *textwrap.wrap(kind.intro, 120, break_long_words=False), ""]
            + [section(entry) for entry in entries if entry.kind == name]
        )
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    if "--write" in sys.argv:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write("\n".join(pages().values()))
