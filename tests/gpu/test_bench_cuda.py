"""On a CUDA device: the benchmark's clocks, its account of memory, and the baselines."""

from __future__ import annotations

import gc
import json
import runpy
import time
from pathlib import Path

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model
from support.program import ROOT, InProcess
from support.shapes import tiny
from transformers import LlamaConfig, LlamaForCausalLM

from orthrus import Decoder, Parts, Stop
from orthrus.bench.bandwidth import copy_bandwidth
from orthrus.bench.measurement import run_decoder
from orthrus.bench.memory_ledger import Ledger, allocated, peak, reset_peak
from orthrus.bench.profiler import profile
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers import baselines
from orthrus_transformers.options import GeneratePromptLookupOptions
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MEBIBYTE = 2**20
RAGGED = [[5] * 9, [1], [7, 3, 9, 2, 4, 4], [2, 7]]


def target() -> TransformersTarget:
    model = tiny_model("qwen3", dtype=torch.float32).cuda()
    model.config.sliding_window = None
    return TransformersTarget(model, None, StaticCache(), SdpaAttention())


def test_the_ledger_knows_whose_memory_is_whose() -> None:
    gc.collect()  # of tests before: what is freed later would be charged to who runs then
    ledger = Ledger()
    kept = []
    for owner, size in (("a", 8), ("b", 16), ("a", 32)):
        with ledger.charge(owner):
            kept.append(torch.empty(size * MEBIBYTE, dtype=torch.uint8, device="cuda"))
            torch.empty(64 * MEBIBYTE, dtype=torch.uint8, device="cuda")  # gone before the end
    assert ledger.others("a") == 16 * MEBIBYTE
    assert ledger.others("b") == 40 * MEBIBYTE
    assert ledger.others("a", "b") == 0
    with ledger.charge("a"):
        kept.pop()
    assert ledger.others("b") == 8 * MEBIBYTE


def test_the_peak_is_of_what_ran_since() -> None:
    gc.collect()
    before = allocated()
    torch.empty(64 * MEBIBYTE, dtype=torch.uint8, device="cuda")
    reset_peak()
    torch.empty(8 * MEBIBYTE, dtype=torch.uint8, device="cuda")
    assert peak() - before == 8 * MEBIBYTE


def test_copying_is_as_fast_as_memory_can_be() -> None:
    bandwidth = copy_bandwidth(torch.device("cuda"))
    assert bandwidth is not None and 1e11 < bandwidth < 2e13


def test_the_parts_of_a_cycle_add_up_to_its_time_on_the_device() -> None:
    decoder = Decoder.of(target(), NoDrafter(), Consensus(), Stop(60))
    for _ in range(2):  # the first captures
        sample = run_decoder(decoder, [[1, 2, 3]], 1, time.perf_counter)
    profiled = profile(decoder, [[1, 2, 3]], 1, time.perf_counter)
    assert profiled is not None and sample.cycle_seconds is not None
    parts = profiled.phases
    assert min(parts.score, parts.verify, parts.commit) > 0
    whole = parts.draft + parts.score + parts.verify + parts.commit + parts.other
    assert 0.5 * sample.cycle_seconds < whole < 3 * sample.cycle_seconds


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores", "ignore:The CUDA Graph is empty")  # of the compiler
@pytest.mark.parametrize("name", ["generate", "generate-static", "generate-prompt-lookup"])
def test_a_baseline_gives_our_greedy_tokens(name: str) -> None:
    """The static cache is compiled over: transformers does that by itself here."""
    first_target, stop = target(), Stop(20, token_ids=frozenset({3}))
    ours = [result.token_ids for result in decode_with(first_target, NoDrafter(), RAGGED, stop)]
    parts = Parts(target=first_target)
    expected = {
        "generate": lambda: baselines.generate(None, parts),
        "generate-static": lambda: baselines.generate_static(None, parts),
        "generate-prompt-lookup": lambda: baselines.generate_prompt_lookup(GeneratePromptLookupOptions(), parts),
    }[name]()
    for _ in range(2):
        answers = [expected.answer([prompt], stop) for prompt in RAGGED]
        assert [answer.token_ids[0] for answer in answers] == ours
        assert all(answer.ttft_seconds > 0 for answer in answers)
    again = decode_with(first_target, NoDrafter(), RAGGED, stop)
    assert [result.token_ids for result in again] == ours


@pytest.mark.parametrize("shape", ["qwen3-8b", "smollm2-135m"])
def test_a_replayed_pass_is_broken_down_to_its_kernels(shape: str, tmp_path: Path) -> None:
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "pass_breakdown.py"))
    source = tiny(tmp_path, shape, hidden_size=256, intermediate_size=512, head_dim=64)
    decoder = program["load"](program["RECIPE"], None, 8, [f"target.source=path:{source}"], False)
    measured = program["breakdown"](decoder, shape, 8, 100, 8)
    assert decoder.target.report()["graphs"] > 0
    assert measured.kernels > 4 * 5  # four layers of five projections
    assert all(measured.groups[name] > 0 for name in ("projections", "attention", "head"))
    assert measured.milliseconds[0] <= 1.001 * sum(measured.groups.values())


def test_isolated_subjects_tell_how_their_memory_grows(tmp_path: Path, orthrus: InProcess) -> None:
    source = tiny(tmp_path / "model", "qwen3-8b", hidden_size=256, intermediate_size=512, head_dim=64)
    config = ROOT / "configs" / "recipes" / "qwen3-8b-shape.yaml"
    flags = ["--baseline", "none", "--isolated", "--context", "100,4000", "--rounds", "1", "--json"]
    done = orthrus("bench", "--config", config, *flags, f"target.source=path:{source}", "stop.max_new_tokens=40")
    assert done.code == 0, done
    runs = {(run["label"], run["point"]["context"]): run for run in done.json()["runs"]}
    assert len({run["peak_memory_bytes"] for run in runs.values()}) > 1
    [grown] = done.json()["memory_growth"]
    keys = 3900 * 2 * 2 * 64 * 4 * 2  # tokens; keys and values, heads, sizes, layers, bytes
    assert grown["keys_bytes"] == pytest.approx(keys, rel=0.05)
    assert grown["extra_bytes"] < 64 * MEBIBYTE


def test_subjects_side_by_side_have_their_own_memory(tmp_path: Path, orthrus: InProcess) -> None:
    config = LlamaConfig(
        vocab_size=4096, hidden_size=1024, intermediate_size=4096, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    weights = sum(parameter.nbytes for parameter in model.parameters())
    file = tmp_path / "run.yaml"
    file.write_text(
        f"target: {{name: transformers, source: {tmp_path / 'model'}, dtype: bfloat16, device: cuda}}\n"
        "attention: {name: sdpa}\ncache: {name: static}\ndrafter: {name: prompt_lookup}\nverifier: {name: consensus}\n"
        "stop: {max_new_tokens: 32}\n"
    )
    flags = ["--baseline", "none", "--baseline", "generate", "--variant", "second: cache.name=dynamic"]
    done = orthrus("bench", "--config", file, *flags, "--context", "64", "--rounds", "2", "--json")
    assert done.code == 0, done
    for run in json.loads(done.out)["runs"]:
        assert run["error"] is None
        # Two models are held; each subject is charged with one.
        assert weights <= run["peak_memory_bytes"] < 1.9 * weights
        if run["kind"] == "decoder":
            assert 0 < run["bandwidth_share"] < 1.5
            assert run["phases"]["score"] > 0
