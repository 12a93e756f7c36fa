"""`orthrus convert`: from a released checkpoint to a view and back, bit by bit; whole or nothing; what it refuses."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hub import cached_on_the_hub, cut_off
from support.program import InProcess
from support.released import RELEASED, drafts, load, plain_base, released_copy
from support.thorough import thorough_but

from orthrus import InputError
from orthrus.files import INDEX
from orthrus_diffusion.view_files.convert import to_released, to_view
from orthrus_diffusion.view_files.safetensors_files import open_checkpoint


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let this process write no more than so many bytes a file, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # Python ignores the signal
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return plain_base(tmp_path / "base")


@pytest.fixture
def view(tmp_path: Path) -> Path:
    to_view(RELEASED, tmp_path / "view", "float", "tiny")
    return tmp_path / "view"


def weights(directory: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(directory)
    return checkpoint.read(checkpoint.weights)


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        some[name].dtype == others[name].dtype and torch.equal(some[name], others[name]) for name in some
    )


def settings(directory: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return values


def test_there_and_back_is_the_same_checkpoint(base: Path, tmp_path: Path, orthrus: InProcess) -> None:
    (base / "special_tokens_map.json").write_text("{}")
    (base / "chat_template.jinja").write_text("hello")
    view, back = tmp_path / "view", tmp_path / "back"
    assert orthrus("convert", RELEASED, view).out == f"{view}\n"
    assert orthrus("convert", view, back, "--base", base).out == f"{back}\n"
    assert same(weights(back), weights(RELEASED))
    wanted = {key: value for key, value in settings(RELEASED).items() if key != "auto_map"}
    assert settings(back) == wanted
    assert sorted(file.name for file in back.iterdir()) == [
        "chat_template.jinja", "config.json", "model.safetensors", "special_tokens_map.json"
    ]  # fmt: skip
    assert drafts(load(back)) == drafts(load(RELEASED))


def test_a_released_checkpoint_is_its_own_base(view: Path, tmp_path: Path) -> None:
    to_released(view, RELEASED, tmp_path / "back", "tiny")
    assert same(weights(tmp_path / "back"), weights(RELEASED))


@pytest.mark.parametrize("most", thorough_but([50_000], [1, 50_000, 200_000]))
def test_big_ones_are_written_and_read_in_shards(most: int, base: Path, view: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    to_released(view, base, back, "tiny", most)
    files = sorted(back.glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    for file in files:
        held = load_file(file)
        assert len(held) == 1 or sum(weight.nbytes for weight in held.values()) <= most
    assert same(weights(back), weights(RELEASED))
    index = json.loads((back / INDEX).read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in weights(RELEASED).values())
    assert drafts(load(back)) == drafts(load(RELEASED))
    to_view(back, tmp_path / "again", "float", "tiny")
    assert same(weights(tmp_path / "again"), weights(view))


def test_a_weight_at_a_time_is_held(base: Path, view: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 70_000
    held: list[int] = []

    def watched(tensors: dict[str, torch.Tensor], *args: object, **kwargs: object) -> None:
        held.append(sum(weight.nbytes for weight in tensors.values()))
        save_file(tensors, *args, **kwargs)

    monkeypatch.setattr("safetensors.torch.save_file", watched)
    to_released(view, base, tmp_path / "back", "tiny", most)
    assert len(held) > 3 and max(held) <= most


def test_a_converted_view_drafts_on_the_plain_base(base: Path, view: Path) -> None:
    assert drafts(load(base, view=str(view))) == drafts(load(RELEASED))
    assert drafts(load(RELEASED, view=str(view))) == drafts(load(RELEASED))


@pytest.mark.thorough
def test_int8_is_smaller_and_drafts_nearly_as_well(base: Path, tmp_path: Path, orthrus: InProcess) -> None:
    orthrus("convert", RELEASED, tmp_path / "float")
    orthrus("convert", RELEASED, tmp_path / "int8", "--storage", "int8")
    orthrus("convert", tmp_path / "float", tmp_path / "other", "--storage=int8")
    assert settings(tmp_path / "int8")["storage"] == "int8"
    assert same(weights(tmp_path / "int8"), weights(tmp_path / "other"))
    sizes = {name: (tmp_path / name / "view.safetensors").stat().st_size for name in ("float", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float"]
    accepted = {
        name: sum(sum(counts) for _, counts in drafts(load(base, view=str(tmp_path / name))))
        for name in ("float", "int8")
    }
    assert accepted["int8"] >= 0.95 * accepted["float"] > 0
    assert orthrus("convert", tmp_path / "int8", tmp_path / "back", "--base", base).code == 0
    assert drafts(load(tmp_path / "back")) == drafts(load(base, view=str(tmp_path / "int8")))


def test_the_view_takes_the_dtype_of_its_base(base: Path, view: Path, tmp_path: Path) -> None:
    halves = {name: weight.to(torch.bfloat16) for name, weight in weights(base).items()}
    save_file(halves, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="their weights differ"):
        to_released(view, base, tmp_path / "back", "tiny")
    diff = {name: weight for name, weight in weights(RELEASED).items() if "_diff" in name}
    save_file({**halves, **diff}, base / "model.safetensors", metadata={"format": "pt"})
    (base / "config.json").write_text(json.dumps(settings(RELEASED)))
    to_view(base, tmp_path / "view-16", "float", "tiny")
    to_released(tmp_path / "view-16", base, tmp_path / "back", "tiny")
    tensors = weights(tmp_path / "back")
    assert {weight.dtype for weight in tensors.values()} == {torch.bfloat16}
    assert all(torch.equal(tensors[name], weight.to(torch.bfloat16)) for name, weight in diff.items())


def test_hub_ids_are_taken(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orthrus: InProcess) -> None:
    cached_on_the_hub(released_copy(tmp_path / "copy"), cut_off(monkeypatch, tmp_path / "hub"))
    done = orthrus("convert", "owner/name", tmp_path / "view")
    assert (done.code, done.err) == (0, "fetching owner/name from the hub\n")
    assert settings(tmp_path / "view")["base"]["name"] == "owner/name"  # type: ignore[index]
    assert orthrus("convert", tmp_path / "view", tmp_path / "back", "--base", "owner/name").code == 0


def _llama(base: Path, view: Path) -> None:
    (base / "config.json").write_text(json.dumps({**settings(base), "model_type": "llama"}))


def _other_base(base: Path, view: Path) -> None:
    tensors = weights(base)
    tensors["model.norm.weight"] += 1e-3
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def _without_a_weight(base: Path, view: Path) -> None:
    tensors = weights(view)
    del tensors["model.layers.1.self_attn.q_norm.weight"]
    save_file(tensors, view / "view.safetensors")


def _foreign(base: Path, view: Path) -> None:
    save_file({**weights(view), "model.norm.weight": torch.ones(64)}, view / "view.safetensors")


def _misshapen(base: Path, view: Path) -> None:
    tensors = weights(view)
    tensors["model.layers.1.self_attn.q_norm.weight"] = torch.ones(3)
    save_file(tensors, view / "view.safetensors")


def _cut(base: Path, view: Path) -> None:
    data = (view / "view.safetensors").read_bytes()
    (view / "view.safetensors").write_bytes(data[: len(data) // 2])


def _released_view(base: Path, view: Path) -> None:
    (view / "config.json").write_text(json.dumps(settings(RELEASED)))


def _index(base: Path, view: Path) -> None:
    (base / "model.safetensors").unlink()
    (base / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}))


def _broken_index(base: Path, view: Path) -> None:
    (base / "model.safetensors").rename(base / "model-00001-of-00001.safetensors")
    (base / INDEX).write_text('{"weight_map": []}')


REFUSED: dict[Callable[[Path, Path], None], str] = {
    _llama: "the released format is one of qwen3 models; '{base}' is of type llama",
    _other_base: "'{view}' is a view of the model 'tiny', not of '{base}': their weights differ",
    _without_a_weight: (
        "the view's weights in '{view}' do not fit its model: model.layers.1.self_attn.q_norm.weight is missing"
    ),
    _foreign: "the view's weights in '{view}' do not fit its model: model.norm.weight is none of its attention",
    _misshapen: "model.layers.1.self_attn.q_norm.weight in '{view}' has the shape [3], not [16]",
    _cut: "'{view}/view.safetensors' is damaged or cannot be read",
    _released_view: "'{view}' is a released checkpoint already",
    _index: (
        "the shard 'model-00002-of-00002.safetensors' of '{base}' is missing; its model.safetensors.index.json names it"
    ),
    _broken_index: "'{base}/model.safetensors.index.json' is damaged: it has no map from weights to files",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_what_does_not_belong_together_is_refused(
    damage: Callable[[Path, Path], None], base: Path, view: Path, tmp_path: Path, orthrus: InProcess
) -> None:
    damage(base, view)
    before = sorted(tmp_path.iterdir())
    error = orthrus("convert", view, tmp_path / "back", "--base", base).error()
    assert error == REFUSED[damage].format(base=base, view=view)
    assert sorted(tmp_path.iterdir()) == before


def test_other_bad_input_is_one_sentence(base: Path, view: Path, tmp_path: Path, orthrus: InProcess) -> None:
    new = tmp_path / "new"
    assert orthrus("convert", "./gone", new).error() == "there is no file or directory './gone'"
    assert "has neither the format 'orthrus-view' nor the architecture 'OrthrusLM'" in (
        orthrus("convert", base, new).error()
    )
    assert orthrus("convert", base / "config.json", new).error().startswith(f"'{base}/config.json' is no directory")
    assert orthrus("convert", RELEASED, view).error() == (f"'{view}' exists already; give the name of a new directory")
    assert orthrus("convert", RELEASED, new, "--storage", "int4").error() == (
        "storage must be 'float' or 'int8', not 'int4'"
    )
    both = orthrus("convert", view, new, "--base", base, "--storage", "int8").error()
    assert both.startswith("--storage says how a view is stored")
    assert orthrus("convert", RELEASED, "/proc/new").error().startswith("'/proc/new' cannot be written: ")
    assert not new.exists()


def test_a_released_checkpoint_without_its_whole_view_is_refused(tmp_path: Path, orthrus: InProcess) -> None:
    copy = released_copy(tmp_path / "copy")
    tensors = weights(copy)
    del tensors["model.layers.2.self_attn.o_proj_diff.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    error = orthrus("convert", copy, tmp_path / "view").error()
    assert error.endswith("do not fit its model: model.layers.2.self_attn.o_proj.weight is missing")


@pytest.mark.parametrize("back", [False, True])
def test_on_a_full_disk_nothing_is_left(
    back: bool, base: Path, view: Path, tmp_path: Path, full_disk: None, orthrus: InProcess
) -> None:
    before = sorted(tmp_path.iterdir())
    new = tmp_path / "new"
    arguments = [view, new, "--base", base] if back else [RELEASED, new]
    assert orthrus("convert", *arguments).error().startswith(f"'{new}' cannot be written: ")
    assert sorted(tmp_path.iterdir()) == before
