"""Options of the target; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from orthrus import option
from orthrus_transformers.engines import ENGINES
from orthrus_transformers.engines.graph_limits import GraphLimits

if TYPE_CHECKING:
    EngineName = str  # mypy wants the choices of a Literal written out
else:
    EngineName = Literal["auto", *ENGINES]


@dataclass(frozen=True)
class TransformersOptions:
    """Options of the target `transformers`: the model, and how it runs."""

    requires: ClassVar[tuple[str, ...]] = ("attention", "cache")

    source: str = option(
        help="a directory, a .gguf file, a hub id (owner/name, optionally @revision), package:MODULE/FILE,"
        " or shape:NAME"
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16", "gguf"] = option(
        "auto",
        help="what the weights are computed in; auto: what they are stored in; gguf: a GGUF file's own blocks on a CPU,"
        " which are widened to float32 within each product",
    )
    device: str = option("auto", help="auto, cpu, cuda, cuda:N or mps; auto: the accelerator if there is one")
    engine: EngineName = option(  # noqa: RUF009  # a field, as the others are
        "auto",
        help=f"how a pass runs: {', '.join(f'{name} {entry.help}' for name, entry in ENGINES.items())};"
        " auto: the fastest that works",
    )
    parallel: int = option(
        1,
        minimum=1,
        maximum=64,
        help="processes that hold a part of the model each and run it together, started by torchrun --nproc-per-node",
    )
    sums: Literal["auto", "nccl", "direct", "joined", "fused"] = option(
        "auto",
        help="how GPUs add up what each has of a layer, with parallel: by nccl; direct, reading each other's memory;"
        " joined, so and in one kernel with the norm behind; or fused, in one with the product before, too;"
        " auto: fused on two GPUs that can, else nccl",
    )
    threads: int | None = option(
        None, minimum=1, maximum=1024, help="threads of the engine native; null: as many as torch takes"
    )
    graphs: int = option(
        GraphLimits.graphs, minimum=1, help="most CUDA graphs that are kept; the one unused longest goes first"
    )
    graph_tokens: int = option(
        GraphLimits.tokens,
        minimum=1,
        help="most tokens of a captured pass: rows times one more than the width of a draft, with cycle one_pass"
        " and all blocks beside it; or a prefill's columns",
    )
    graph_megabytes: int = option(
        GraphLimits.megabytes,
        minimum=1,
        help="memory in MiB from which on all CUDA graphs are dropped and captured anew when used",
    )
    chat: bool = option(True, help="put text prompts through the model's chat template, if it has one")
    tokenizer: str | None = option(
        None,
        help="where tokenizer and chat template are, written as source is; its tokens must be the model's; null: where"
        " the model is",
    )
    prefill_chunk: int = option(512, minimum=1, help="most prompt tokens of one row in a pass")
    steady_prefills: bool = option(
        False,
        help="whether a prompt's tokens get the bits that they get one by one, whatever else is in the pass; for"
        " bfloat16 on one GPU, fused layers of sizes that are multiples of 128, and attention split",
    )
    trust_remote_code: bool = option(False, help="run Python code that comes with a model in a directory")
    ignore: tuple[str, ...] = option(
        (),
        help="keys and tensors of the model's file that are left out, with * for anything; without this, one that is"
        " not known is refused",
    )


@dataclass(frozen=True)
class GeneratePromptLookupOptions:
    """Options of transformers' own prompt lookup."""

    num_tokens: int = option(10, minimum=1, help="prompt_lookup_num_tokens: most draft tokens a cycle")
    max_ngram: int = option(2, minimum=1, help="max_matching_ngram_size: longest run of last tokens looked for")
