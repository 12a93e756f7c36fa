"""Options of the baselines; imports none of their packages."""

from __future__ import annotations

from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class LlamaCppOptions:
    """Options of llama.cpp, from the package xllamacpp."""

    model: str | None = option(None, help="a .gguf file; null: the one that the target was loaded from")
    threads: int | None = option(None, minimum=1, help="threads of a pass; null: as many as torch has")


@dataclass(frozen=True)
class LlamaCppNgramOptions(LlamaCppOptions):
    """Options of llama.cpp with its simple n-gram drafts."""

    drafts: int = option(10, minimum=1, help="most draft tokens a cycle")
    ngram: int = option(3, minimum=1, help="tokens of the n-gram that is looked for")


@dataclass(frozen=True)
class OnnxRuntimeOptions:
    """Options of ONNX Runtime GenAI, which answers one prompt at a time."""

    model: str = option(help="a directory that onnxruntime_genai.models.builder wrote")
    threads: int | None = option(None, minimum=1, help="threads of a pass; null: as many as torch has")


@dataclass(frozen=True)
class VllmOptions:
    """Options of vLLM, which takes its share of a GPU's memory beside the target."""

    model: str | None = option(None, help="a directory or hub id; null: the directory that the target was loaded from")
    dtype: str = option("bfloat16", help="the dtype of weights and passes, as vLLM names it")
    max_length: int = option(2048, minimum=1, help="most tokens of a prompt and its answer")
    memory: float = option(0.4, minimum=0.05, maximum=1.0, help="the share of the GPU's memory that it may take")


@dataclass(frozen=True)
class VllmNgramOptions(VllmOptions):
    """Options of vLLM with its n-gram drafts."""

    drafts: int = option(10, minimum=1, help="most draft tokens a cycle")
    ngram: int = option(4, minimum=1, help="most tokens of the n-gram that is looked for")
