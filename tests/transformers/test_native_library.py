"""The native library: built once for a source, compiler and CPU, else a sentence says why; and checks that are kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from support.families import tiny_model
from support.gguf_blocks import write_block_model
from support.gguf_models import write_model
from support.native import hold_kernels, needs_kernels

import orthrus
from orthrus import BuildError
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model import self_check
from orthrus_transformers.native import compiler, library
from orthrus_transformers.target import TransformersTarget

PARTS = {"cache": {"name": "dynamic"}, "attention": {"name": "sdpa"}, "drafter": {"name": "none"}}


def made(engine: str, heard: list[str] | None = None) -> TransformersTarget:
    model = tiny_model("llama", dtype=torch.float32)
    notify = (lambda text: None) if heard is None else heard.append
    return TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine=engine, notify=notify)


def assert_refused(said: str) -> None:
    """Assert that the engine is refused by name, and that `auto` goes on and says why."""
    heard: list[str] = []
    assert made("auto", heard).report()["layers"] != "native"
    [sentence] = [sentence for sentence in heard if not sentence.startswith("compiling")]
    assert re.search(f"'auto' goes on without engine native, which {said}", sentence)
    with pytest.raises(BuildError, match=f"'native' {said}.*; set engine=eager"):
        made("native")


def test_without_a_compiler_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "check_cpu", lambda: None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert_refused(r"needs a C\+\+ compiler, and none is found \(CXX=no-such-compiler\)")


def test_an_old_cpu_is_named_with_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compiler, "cpu_flags", lambda: frozenset({"avx2"}))
    assert_refused(r"needs a CPU with F16C, FMA, which this one \(x86_64\) lacks")


@needs_kernels
def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'error: no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    assert_refused("cannot be compiled by .*broken: error: no such option")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@needs_kernels
def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "LOADED", {})
    monkeypatch.setattr(compiler, "compile_library", lambda compiler, output: output.touch())
    assert_refused("cannot keep its kernels in .*; set ORTHRUS_CACHE to a folder with room")


@needs_kernels
def test_a_damaged_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "LOADED", {})
    monkeypatch.setattr(compiler, "compile_library", lambda compiler, output: output.write_bytes(b"no library"))
    assert_refused("cannot load its kernels from .*; delete that file")


def test_a_key_tells_sources_compilers_and_cpus_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compilers = [tmp_path / name for name in ("one", "two")]
    for file in compilers:
        file.touch()
    keys = [compiler.library_key(file) for file in compilers]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "library.cpp").write_text("// another source")
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "SOURCE", tmp_path / "source")
        keys.append(compiler.library_key(compilers[0]))
    monkeypatch.setattr(compiler, "cpu_flags", lambda: frozenset({"another"}))
    keys.append(compiler.library_key(compilers[0]))
    assert len(set(keys)) == 4


@needs_kernels
def test_a_passed_self_check_is_kept_for_the_same_parts_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hold_kernels()
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = write_block_model(tmp_path / "model.gguf", "llama", Kind.Q8_0)
    checks: list[int] = []
    real = self_check.probe
    monkeypatch.setattr(self_check, "probe", lambda *given: checks.append(1) or real(*given))

    def loaded(**parts: Any) -> Any:
        target = {"name": "transformers", "source": str(file), "dtype": "gguf", "engine": "native"}
        return orthrus.load({**PARTS, "target": target, **parts}).target

    assert loaded().pass_bytes([1, 2]) == loaded().pass_bytes([1, 2])
    assert len(checks) == 1
    loaded(cache={"name": "static"})
    assert len(checks) == 2
    [first, second] = (tmp_path / "cache").rglob("orthrus-checked-*.json")
    first.write_text("damaged")
    second.write_text("damaged")
    loaded()
    assert len(checks) == 3


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("starcoder2", "is of the architecture 'starcoder2'.*llama, qwen2, qwen3; set target.dtype=float32"),
        (None, "GGUF"),
    ],
)
def test_files_that_are_not_read_in_blocks_are_refused(
    family: str | None, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = write_block_model(tmp_path / "model.gguf", "llama", Kind.Q8_0)
    if family is None:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        write_model(file, family)
    target = {"name": "transformers", "source": str(file), "dtype": "gguf"}
    with pytest.raises(BuildError, match=said):
        orthrus.load({**PARTS, "target": target})


def test_a_directory_has_no_blocks(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    with pytest.raises(BuildError, match=r"'gguf' computes with the blocks of a .gguf file.*set target.dtype=float32"):
        orthrus.load({**PARTS, "target": {"name": "transformers", "source": str(tmp_path), "dtype": "gguf"}})
