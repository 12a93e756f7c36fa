"""int8 storage of views: what it may cost, how big it is, and files that are not whole; no disk holds half a view."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.building import transformers_target
from support.families import FAMILIES, tiny_model
from support.released import target_at
from support.thorough import nightly_but
from support.views import random_view
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import InputError, OrthrusError
from orthrus_diffusion.view_files.config import ViewConfig
from orthrus_diffusion.view_files.formats import attach, read_view, save_view, write_view
from orthrus_diffusion.view_files.quantization import LEVELS, SCALE, dequantized, quantized
from orthrus_diffusion.view_files.shipped import VIEWS
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.model.views import find_attention

MOST_BYTES = 27_000_000  # of the shipped view of SmolLM2-135M-Instruct, without its successor head
SHIPPED_BYTES = 28_500_000
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MATRICES = st.tuples(
    st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**31), st.integers(-44, 37), st.sampled_from(DTYPES)
)


def matrix(rows: int, columns: int, seed: int, exponent: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a matrix of any size of numbers, that of its rows included, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.randint(-3, 1, (rows, 1), generator=generator).double()
    values = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * sizes * 10.0**exponent
    values[torch.rand(rows, columns, generator=generator) < 0.2] = 0
    return values.clamp(-3e38, 3e38).to(dtype).nan_to_num(posinf=1, neginf=-1)


def there_and_back(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    stored = quantized({"w": weight})
    assert stored["w"].dtype == torch.int8 and stored["w"].shape == weight.shape
    assert stored["w" + SCALE].shape == weight.shape[:1] and stored["w" + SCALE].dtype == torch.float32
    return dequantized(stored, stored, "here")["w"], stored["w" + SCALE]


@given(MATRICES)
def test_no_value_is_off_by_more_than_half_a_step_of_its_row(
    drawn: tuple[int, int, int, int, torch.dtype],
) -> None:
    weight = matrix(*drawn)
    back, scales = there_and_back(weight)
    errors = (back.double() - weight.double()).abs().amax(1)
    rounding = 2.0**-22  # of float32, in the scale and in the product
    assert (errors <= scales.double() / 2 + weight.double().abs().amax(1) * rounding).all()
    assert (scales.double() <= weight.double().abs().amax(1) / LEVELS * (1 + rounding) + 2.0**-126).all()


@given(MATRICES)
def test_rounding_is_to_nearest_and_odd(drawn: tuple[int, int, int, int, torch.dtype]) -> None:
    weight = matrix(*drawn)
    assert torch.equal(there_and_back(-weight)[0], -there_and_back(weight)[0])
    again, _ = there_and_back(there_and_back(weight)[0])
    torch.testing.assert_close(again, there_and_back(weight)[0], rtol=1e-6, atol=0)


def test_a_step_that_is_cut_off_instead_of_rounded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "round", torch.Tensor.trunc)
    with pytest.raises(AssertionError):
        test_no_value_is_off_by_more_than_half_a_step_of_its_row()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_stored(bad: float, tmp_path: Path) -> None:
    config = ViewConfig(4, 0, "base", "0")
    with pytest.raises(InputError, match="the view's weight w has values that are not finite"):
        write_view(tmp_path / "view", {"w": torch.tensor([[1.0, bad]])}, config, "int8")
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "phi", "gpt_oss"])
@pytest.mark.parametrize("storage", ["int8", "float"])
def test_a_view_comes_back_and_its_vectors_as_they_were(family: str, storage: str, tmp_path: Path) -> None:
    target = transformers_target(family)
    random_view(target, "noisy")
    save_view(target, "noisy", tmp_path / "view", 6, 3, storage=storage)
    target.attach_view("back", read_view(tmp_path / "view"))
    written, back = target.view_weights("noisy"), target.view_weights("back")
    assert written.keys() == back.keys()
    for name, weight in written.items():
        step = weight.abs().amax() / LEVELS if storage == "int8" and weight.dim() > 1 else 0
        assert (back[name] - weight).abs().max() <= step / 2 * 1.001
        assert back[name].dtype == weight.dtype == torch.float64  # whatever was stored, the target's own


def test_most_families_have_something_to_keep_as_it_is() -> None:
    assert {"qwen3", "gpt2", "phi", "gpt_oss"} <= FAMILIES.keys()
    vectors = [name for name, weight in tiny_model("qwen3").named_parameters() if weight.dim() < 2]
    assert any("q_norm" in name for name in vectors)


def test_the_view_of_smollm2_is_small_enough_to_be_shipped(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(SHAPES / "smollm2-135m"))
    shapes = {
        f"{path}.{name}": weight.shape
        for path, module in find_attention(model).items()
        for name, weight in module.named_parameters()
    }
    assert sum(shape.numel() for shape in shapes.values()) == 26_542_080
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    write_view(tmp_path / "view", weights, ViewConfig(16, 3, "SmolLM2-135M-Instruct", "0" * 64), "int8")
    assert 26_542_080 < sum(file.stat().st_size for file in (tmp_path / "view").iterdir()) <= MOST_BYTES


def test_the_shipped_view_with_its_head_is_as_small_as_the_docs_say() -> None:
    assert MOST_BYTES < (VIEWS / "smollm2-135m-instruct" / "view.safetensors").stat().st_size < SHIPPED_BYTES


def _changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(view: Path) -> None:
        weights = load_file(view / "view.safetensors")
        change(weights)
        save_file(weights, view / "view.safetensors")

    return damage


def _stored_as(storage: object) -> Callable[[Path], None]:
    def damage(view: Path) -> None:
        config = json.loads((view / "config.json").read_text(encoding="utf-8"))
        (view / "config.json").write_text(json.dumps({**config, "storage": storage}), encoding="utf-8")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no scale": (_changed(lambda w: w.pop(Q_PROJ + SCALE)), f"holds no {Q_PROJ}_scale, the scales of an int8 weight"),
    "no weight": (_changed(lambda w: w.pop(Q_PROJ)), f"holds {Q_PROJ}_scale, a scale of no weight"),
    "short scales": (
        _changed(lambda w: w.update({Q_PROJ + SCALE: torch.ones(3)})),
        rf"{Q_PROJ}_scale in '.*' has the shape \[3\], not \[32\]",
    ),
    "foreign": (
        _changed(lambda w: w.update({"model.norm.weight": torch.ones(32)})),
        "do not fit the model: model.norm.weight is none of its attention",
    ),
    "other storage": (_stored_as("int4"), "storage in the config.json of '.*' must be 'float' or 'int8', not 'int4'"),
    "odd storage": (_stored_as(["int8"]), r"must be 'float' or 'int8', not \['int8'\]"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model and an int8 view of it."""
    folder = tmp_path_factory.mktemp("storage")
    tiny_model("llama", dtype=torch.float32).save_pretrained(folder / "base")
    target = target_at(folder / "base")
    random_view(target, "noisy")
    save_view(target, "noisy", folder / "view", 6, 3, storage="int8")
    return folder


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_int8_view_is_refused(name: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "view", tmp_path / "view")
    target = target_at(whole / "base")
    attach(target, "whole", tmp_path / "view")
    damage, complaint = DAMAGES[name]
    damage(tmp_path / "view")
    with pytest.raises(OrthrusError, match=rf"drafter\.view: .*{complaint}"):
        attach(target, "broken", tmp_path / "view")
    assert target.view_names == {"whole"}


def test_an_unknown_storage_is_not_written(whole: Path, tmp_path: Path) -> None:
    target = target_at(whole / "base")
    target.attach_view("copy")
    with pytest.raises(InputError, match="storage must be 'float' or 'int8', not 'int2'"):
        save_view(target, "copy", tmp_path / "view", 6, 3, storage="int2")
    assert not list(tmp_path.iterdir())


SAVE = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = ["tests"]
from support.released import target_at
from orthrus import InputError
from orthrus_diffusion.view_files.formats import save_view

target = target_at(sys.argv[1])
target.attach_view("copy")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))  # what a full disk does to a file of more
try:
    save_view(target, "copy", Path(sys.argv[2]), 4, 0, storage=sys.argv[3])
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("storage", nightly_but([], ["int8", "float"], thorough=["int8"]))
def test_on_a_full_disk_nothing_is_left(storage: str, whole: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    done = subprocess.run(
        [sys.executable, "-c", SAVE, str(whole / "base"), str(new), storage],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"'{new}' cannot be written: "), done
    assert not list(tmp_path.iterdir())
