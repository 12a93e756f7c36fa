"""Print the figures of docs/benchmarks.md: run it on a CUDA device, from the repository (random weights, no download).

python docs/examples/gpu_speeds.py
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config
from triton.testing import do_bench

from orthrus import Decoder, MaskDescription, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_consensus.consensus import Consensus
from orthrus_plain.none import NoDrafter
from orthrus_transformers.engine import Pass
from orthrus_transformers.target import TransformersTarget

SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
    eos_token_id=None,
)
TOKENS = 256


def qwen3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool) -> Qwen3Config:
    """Return a config of Qwen3's shape."""
    return Qwen3Config(
        vocab_size=151936,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=65536,
        tie_word_embeddings=tied,
        eos_token_id=None,
    )


def build(config: Any) -> Any:
    """Return a model with random weights in bfloat16 on the device."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(False)


def show(what: str, seconds: list[float], scale: float, unit: str) -> None:
    """Print the median and the spread of some measurements."""
    values = sorted(scale / one for one in seconds) if unit == "tokens/s" else sorted(one * scale for one in seconds)
    print(f"{what}: {statistics.median(values):.4g} {unit} ({values[0]:.4g} to {values[-1]:.4g})", flush=True)


def decoding() -> None:
    """Time plain decoding of the SmolLM2 shape, and transformers' own generate beside it, interleaved."""
    model = build(SMOLLM2)
    prompt = torch.arange(5, 45, device="cuda")[None]

    def own(**more: Any) -> None:
        model.set_attn_implementation("sdpa")
        mask = torch.ones_like(prompt)
        model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS, pad_token_id=0, **more)

    def ours(target: TransformersTarget, rows: int) -> None:
        model.set_attn_implementation("orthrus")
        decoder = Decoder.of(target, NoDrafter(), Consensus(), Stop(TOKENS))
        decoder.generate([prompt[0].tolist()] * rows, batch=rows)

    graphed = TransformersTarget(model, None, StaticCache(), SplitAttention(), engine="graphed")
    runs = [
        ("transformers generate, eager", own, 1),
        ("transformers generate, static cache and compile", lambda: own(cache_implementation="static"), 1),
        ("orthrus none, graphed, static, split", lambda: ours(graphed, 1), 1),
    ]
    seconds: dict[str, list[float]] = {what: [] for what, _, _ in runs}
    for repetition in range(4):
        for what, run, _ in runs:
            spent = timed(run)
            if repetition:  # the first one compiles and captures
                seconds[what].append(spent)
    for what, spent_each in seconds.items():
        show(f"SmolLM2 shape, batch 1, {what}", spent_each, TOKENS, "tokens/s")
    for rows in (32, 1024):
        spent_each = [timed(lambda: ours(graphed, rows)) for _ in range(4)][1:]  # noqa: B023  # called at once
        show(f"SmolLM2 shape, batch {rows}, orthrus none", spent_each, TOKENS * rows, "tokens/s")


def timed(run: Any) -> float:
    """Return the seconds that a run takes, the device's work included."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def passes(name: str, config: Any, contexts: tuple[int, ...]) -> None:
    """Time a captured verify pass of 1 and of 32 tokens at some contexts, batch 1."""
    target = TransformersTarget(build(config), None, StaticCache(), SplitAttention(), engine="graphed")
    for context in contexts:
        for width in (1, 32):
            target._cache.start(1, torch.device("cuda"))
            slots = (torch.arange(width, device="cuda") + context - width)[None]
            tokens = torch.randint(0, 1000, (1, width), device="cuda")
            with torch.no_grad():
                target._engine.run(Pass(tokens, slots, slots[:, 0], context, width))
            recording = list(target._engine._recordings.values())[-1]  # type: ignore[attr-defined]
            times = [do_bench(recording.graph.replay, return_mode="median") / 1000 for _ in range(3)]
            show(f"{name}, verify pass of {width}, context {context}", times, 1000, "ms")


def attention() -> None:
    """Time one layer's attention, torch's kernels against the split ones, ten launches in one graph."""
    for heads, groups, size, slots in ((8, 4, 128, 512), (8, 4, 128, 40960), (3, 3, 64, 512), (3, 3, 64, 40960)):
        for width in (1, 32):
            lengths = torch.tensor([slots - width], device="cuda")
            positions = lengths[:, None] + torch.arange(width, device="cuda")
            mask = MaskDescription("causal", positions, lengths, slots)
            query = torch.randn(1, width, heads * groups, size, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            key, value = torch.randn(2, 1, heads, slots, size, device="cuda", dtype=torch.bfloat16)
            for backend in (SdpaAttention(), SplitAttention()):
                prepared = backend.prepare(mask, None, torch.bfloat16)
                backend.attend(query, key, value, prepared, scale=0.1)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    for _ in range(10):
                        backend.attend(query, key, value, prepared, scale=0.1)
                times = [do_bench(graph.replay, return_mode="median") / 1e4 for _ in range(3)]
                what = f"{heads} key heads, {heads * groups} heads of {size}, {slots} slots, {width} queries"
                show(f"attention {type(backend).__name__}, {what}", times, 1e6, "µs")


def main() -> None:
    """Print everything, with what it ran on."""
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers {transformers.__version__}, bfloat16"
    )
    attention()
    for work in (
        decoding,
        lambda: passes("Qwen3-1.7B shape", qwen3(2048, 6144, 28, 16, tied=True), (512,)),
        lambda: passes("Qwen3-8B shape", qwen3(4096, 12288, 36, 32, tied=False), (512, 40960)),
    ):
        work()
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
