"""`docs/tools/pass_breakdown.py`: what it counts as what, and that the page holds what it found."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from docs_pages import ROOT
from support.shapes import tiny
from support.thorough import thorough_but

PROGRAM = ROOT / "docs" / "tools" / "pass_breakdown.py"
NAMES = {
    "linear": "projections",
    "linear_added": "projections",
    "linear_rotated": "projections",
    "gated": "projections",
    "nvjet_tst_64x32_64x16_2x4_h_bz_TNT": "projections",
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_cublas": "projections",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm>": "projections",
    "aten::addmm": "projections",
    "mkldnn::_linear_pointwise": "projections",
    "partial": "attention",
    "combine": "attention",
    "void pytorch_flash::flash_fwd_splitkv_kernel<...>": "attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
    "gain": "norms, rotary, the rest",
    "_rms_norm": "norms, rotary, the rest",
    "_split_heads": "norms, rotary, the rest",
    "triton_poi_fused_mul_silu_0": "norms, rotary, the rest",
    "aten::mul": "norms, rotary, the rest",
    "aten::matmul": "norms, rotary, the rest",  # what it does itself; its product is an operation of its own
    "Memcpy DtoD (Device -> Device)": "norms, rotary, the rest",
}


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(PROGRAM))


@pytest.mark.parametrize(("name", "group"), NAMES.items())
def test_kernels_have_the_group_of_their_names(program: dict[str, Any], name: str, group: str) -> None:
    assert program["group_of"](name) == group


def test_the_kernels_of_this_house_are_known(program: dict[str, Any]) -> None:
    """A kernel that is renamed would be counted among the rest."""
    sources = [ROOT / "orthrus/kernels/triton_skinny_linear.py", *ROOT.glob("plugins/orthrus_attention/triton_*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    for name in ("linear", "linear_added", "linear_rotated", "gated", "partial", "combine", "folded", "folded_added"):
        assert f"\ndef {name}(" in text


def test_the_last_projection_is_the_head(program: dict[str, Any]) -> None:
    kernels = [
        program["Kernel"](*values) for values in (("linear", 1.0), ("partial", 2.0), ("linear", 4.0), ("gain", 8.0))
    ]
    times = program["grouped"](kernels)
    rest = "norms, rotary, the rest"
    assert times == {"projections": 1.0, "attention": 2.0, rest: 8.0, "head": 4.0}
    assert sum(program["grouped"](kernels[1:2]).values()) == 2.0  # no projection, no head


def test_kernels_that_overlap_add_what_the_clock_does(program: dict[str, Any]) -> None:
    spans = [("b", 1000.0, 4000.0), ("a", 0.0, 2000.0), ("inside", 2500.0, 3000.0), ("later", 6000.0, 7000.0)]
    added = {kernel.name: kernel.milliseconds for kernel in program["added"](spans)}
    assert added == {"a": 2.0, "b": 2.0, "inside": 0.0, "later": 1.0}  # from 4 to 6 nothing ran


def test_the_introduction_keeps_what_is_around_the_table(program: dict[str, Any]) -> None:
    once = program["page_text"]("# Title\n\nText.\n", ["", "one", ""])
    assert once == "# Title\n\nText.\n\n<!-- pass breakdown -->\n\none\n\n<!-- end -->\n"
    assert program["page_text"](once + "\nMore.\n", ["", "two", ""]) == once.replace("one", "two") + "\nMore.\n"


def test_the_table_names_devices_and_commands(program: dict[str, Any]) -> None:
    text = program["INTRODUCTION"].read_text(encoding="utf-8")
    files = program["read"](program["FOUND"])
    assert files and all(record["device"] in text and record["command"] in text for record in files)


def test_the_page_has_a_table_for_each_file_that_is_there(program: dict[str, Any], tmp_path: Path) -> None:
    first = program["read"](program["FOUND"])[0]
    second = {**first, "device": "a processor", "threads": 2, "passes": first["passes"][:1]}
    places = [tmp_path / name for name in ("one.json", "none.json", "two.json")]
    for path, results in ((places[0], first), (places[2], second)):
        path.write_text(json.dumps(results), encoding="utf-8")
    assert program["read"](places) == [first, second]
    first_alone, both = program["page_lines"]([first]), program["page_lines"]([first, second])
    assert both[: len(first_alone)] == first_alone
    [said, blank, head, _, line, end] = both[len(first_alone) :]
    assert said.startswith("On a processor, 2 threads, torch ") and blank == end == ""
    assert head.startswith("| shape") and line.startswith(f"| {first['passes'][0]['shape']} |")


PRODUCTS = [("eager", "aten::mm", 29), ("fused", "mkldnn::_linear_pointwise", 17)]


@pytest.mark.parametrize(
    ("engine", "product", "count"),  # of four layers with seven projections, or four when they are joined; and the head
    thorough_but([("fused", "mkldnn::_linear_pointwise", 17)], PRODUCTS),
)
def test_a_tiny_shape_on_a_cpu(
    engine: str, product: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**16)
    out, source = tmp_path / "found.json", tiny(tmp_path / "model", "qwen3-8b")
    parts = [f"target.source=path:{source}", "target.device=cpu", "attention.name=sdpa"]
    parts += [f"target.engine={engine}", "target.dtype=float32"]
    flags = ["--tokens", "4", "--context", "5", "20", "--repeats", "3", "--out", str(out), "--set", *parts]
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *flags])
    runpy.run_path(str(PROGRAM), run_name="__main__")
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["threads"] == torch.get_num_threads() and f", {results['threads']} threads, " in "".join(
        runpy.run_path(str(PROGRAM))["page_lines"]([results])
    )
    assert [(entry["tokens"], entry["context"]) for entry in results["passes"]] == [(4, 5), (4, 20)]
    for entry in results["passes"]:
        median, low, high = entry["milliseconds"]
        assert 0 < low <= median <= high and entry["limit"] > 0
        assert all(
            entry["groups"][name] > 0 for name in ("projections", "attention", "norms, rotary, the rest", "head")
        )
        assert sum(entry["groups"].values()) >= median
        assert next(number for name, _, number in entry["longest"] if name == product) == count
    printed = capsys.readouterr().out
    table = runpy.run_path(str(PROGRAM))["page_lines"]([results])
    assert all(line in printed.splitlines() for line in table if line.startswith("|"))


def test_the_pass_of_a_drafter_stands_beside_the_one_that_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**16)
    source, recipe = ROOT / "tests" / "data" / "tiny-orthrus-qwen3", tmp_path / "recipe.yaml"
    target = f"{{name: transformers, source: {source}, dtype: float32, device: cpu, engine: fused}}"
    parts = "attention: {name: sdpa}\ncache: {name: static}\ndrafter: {name: diffusion}\nverifier: {name: consensus}\n"
    recipe.write_text(f"target: {target}\n{parts}", encoding="utf-8")
    flags = ["--config", str(recipe), "--draft", "--tokens", "4", "--context", "9", "--repeats", "3"]
    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *flags, "--out", str(out)])
    runpy.run_path(str(PROGRAM), run_name="__main__")
    verify, draft = json.loads(out.read_text(encoding="utf-8"))["passes"]
    assert (verify["kind"], draft["kind"]) == ("verify", "draft")
    assert verify["outside"] is draft["outside"] is None  # no graphs on a CPU
    for entry in (verify, draft):
        assert all(
            entry["groups"][name] > 0 for name in ("projections", "attention", "norms, rotary, the rest", "head")
        )
    names = {entry["kind"]: {name for name, _, _ in entry["longest"]} for entry in (verify, draft)}
    assert "mkldnn::_linear_pointwise" in names["verify"] | names["draft"]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert "outside graphs" not in table[0] and ", draft | 4 | 9 |" in table[3]


def test_launches_outside_of_graphs_are_told(program: dict[str, Any]) -> None:
    entry = {"shape": "a", "tokens": 4, "context": 9, "milliseconds": (2.0, 1.0, 3.0), "limit": None, "kernels": 200}
    groups = dict.fromkeys(program["COLUMNS"], 0.4)
    entries = [
        program["Breakdown"](**entry, groups=groups, longest=(), kind=kind, outside=outside)
        for kind, outside in (("verify", 1), ("draft", 3))
    ]
    head, rule, verify, draft = program["rows"](entries)
    assert head.count("|") == rule.count("|") == verify.count("|") == draft.count("|")
    assert "| kernels | outside graphs |" in head and "| 200 | 1 |" in verify and "| a, draft | 4 | 9 |" in draft
    names = [
        "cuLaunchKernelEx",
        "cudaLaunchKernel",
        "cudaMemcpyAsync",
        "cudaGraphLaunch",
        "cudaEventRecord",
        "aten::mm",
    ]
    assert [bool(re.match(program["LAUNCHES"], name)) for name in names] == [True] * 3 + [False] * 3


def test_numbers_below_one_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), "--context", "0"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert ended.value.code == 2
    assert "take numbers from 1" in capsys.readouterr().err
