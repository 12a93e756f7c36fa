"""Model directories, GGUF files and the hub's cache: whole ones run, damaged ones are one clear sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hub import cached_on_the_hub, cut_off
from support.program import ERROR, InProcess, outcome
from support.site import Site
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["[UNK]", "[END]", *"abcdefghijklmnopqrstuvwxyz"]
RUN = "attention: {name: sdpa}\ncache: {name: dynamic}\ndrafter: {name: none}\nverifier: {name: consensus}\n"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny llama with a tokenizer, as save_pretrained leaves it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, bos_token_id=None, eos_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with nothing but a run file."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ORTHRUS_CACHE", str(folder / "cache"))
    Path("run.yaml").write_text(f"{RUN}target: {{name: transformers, source: ./model, device: cpu}}\n")
    return folder


def ask(*overrides: str) -> list[str]:
    return ["run", "--config", "run.yaml", "--prompt", "abc", "--json", "stop.max_new_tokens=5", *overrides]


def test_a_whole_directory_answers(whole: Path, orthrus: InProcess) -> None:
    for source in (whole, f"path:{whole}"):
        done = orthrus(*ask(f"target.source={source}"))
        assert (done.code, done.err) == (0, "")
        assert done.json()["prompt_tokens"] == 3


def truncated(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwritten(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 200)


def emptied(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")


def without_a_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    del weights[Q_PROJ]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def with_half_a_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights[Q_PROJ] = weights[Q_PROJ][:4].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def without_config(model: Path) -> None:
    (model / "config.json").unlink()


def with_a_broken_config(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": ')


def of_an_unknown_type(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "abacus"}')


def that_is_no_language_model(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "vit"}')


def with_pickles_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def with_a_broken_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")


def without_a_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


DAMAGED: dict[Callable[[Path], None], str] = {
    truncated: "no model can be loaded from 'model' (SafetensorError: ",
    overwritten: "no model can be loaded from 'model' (SafetensorError: ",
    emptied: "no model can be loaded from 'model' (SafetensorError: ",
    without_a_weight: f"the weights in 'model' do not make the model that its config describes: {Q_PROJ} is missing\n",
    with_half_a_weight: (
        f"the weights in 'model' do not make the model that its config describes: {Q_PROJ} has the shape [4, 16], not"
        " [16, 16]\n"
    ),
    without_config: "target.source: the directory 'model' holds no config.json\n",
    with_a_broken_config: "no tokenizer can be loaded from 'model' (OSError: It looks like the config file at 'mod",
    of_an_unknown_type: "no model can be loaded from 'model' (ValueError: ",
    that_is_no_language_model: "no model can be loaded from 'model' (ValueError: Unrecognized configuration class",
    with_pickles_only: "target.source: the directory 'model' holds no .safetensors file; pickles are never loaded\n",
    with_a_broken_tokenizer: "no tokenizer can be loaded from 'model' (",
    without_a_tokenizer: "prompt '0' is text, but the target has no tokenizer; give token ids\n",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_a_damaged_directory_is_one_sentence(damage: Callable[[Path], None], whole: Path, orthrus: InProcess) -> None:
    shutil.copytree(whole, "model")
    damage(Path("model"))
    before = sorted(Path().rglob("*"))
    assert f"{orthrus(*ask()).error()}\n".startswith(DAMAGED[damage])
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("target.device=quantum", "target.device: 'quantum' cannot be used here: "),
        ("target.device=cuda:77", "target.device: 'cuda:77' cannot be used here: "),
        ("target.dtype=float8", "override: target.dtype: must be 'auto' or 'float64' or 'float32' or "),
        ("target.prefill_chunk=0", "override: target.prefill_chunk: must be at least 1, not 0"),
        ("stop.token_ids=[28]", "stop.token_ids: 28 is no token of the target; it has 28 tokens"),
        ("target.source=run.yaml", "target.source: 'run.yaml' is neither a directory nor a .gguf file"),
    ],
)
def test_options_that_cannot_be(override: str, sentence: str, whole: Path, orthrus: InProcess) -> None:
    shutil.copytree(whole, "model")
    assert orthrus(*ask(override)).error().startswith(sentence)


def test_a_prompt_longer_than_the_context(whole: Path, orthrus: InProcess) -> None:
    shutil.copytree(whole, "model")
    arguments = ["run", "--config", "run.yaml", "--prompt", "a" * 32]
    sentence = "prompt '0' has 32 tokens; the model's context of 32 leaves no room to answer"
    assert orthrus(*arguments).error() == sentence
    assert orthrus("run", "--config", "run.yaml", "--prompt", "a" * 31, "--json").json()["new_tokens"] == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "target.source: 'bad.gguf' is no GGUF file: it does not start with GGUF"),
        (b"PK\x03\x04 something else", "target.source: 'bad.gguf' is no GGUF file: it does not start with GGUF"),
        (b"GGUF", "no model can be loaded from the GGUF file 'bad.gguf' ("),
        (b"GGUF\x03\x00\x00\x00" + b"\x07" * 40, "no model can be loaded from the GGUF file 'bad.gguf' ("),
    ],
)
def test_a_damaged_gguf_is_one_sentence_and_leaves_no_copy(content: bytes, sentence: str, orthrus: InProcess) -> None:
    Path("bad.gguf").write_bytes(content)
    done = orthrus(*ask("target.source=bad.gguf"))
    notes, _, error = done.err.rpartition(ERROR)
    assert (done.code, done.out) == (2, "")
    assert error.startswith(sentence) and error.count("\n") == 1
    assert notes in ("", "converting bad.gguf to safetensors (once)\n")
    assert [path for path in Path("cache").rglob("*") if path.name != "models"] == []


@pytest.fixture
def offline(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cut the hub off and give it an empty cache, as HF_HUB_OFFLINE and HF_HOME do for a new program."""
    return cut_off(monkeypatch, somewhere / "hub")


@pytest.mark.parametrize("source", ["owner/name", "hub:owner/name", "owner/name@main"])
def test_a_hub_id_in_the_cache_needs_no_network(source: str, whole: Path, offline: Path, orthrus: InProcess) -> None:
    cached_on_the_hub(whole, offline)
    done = orthrus(*ask(f"target.source={source}"))
    assert (done.code, done.err) == (0, f"fetching {source.removeprefix('hub:')} from the hub\n")
    direct = orthrus(*ask(f"target.source={whole}"))
    assert done.json()["token_ids"] == direct.json()["token_ids"]


def test_a_revision_is_found_by_its_name_and_missed_by_another(whole: Path, offline: Path, orthrus: InProcess) -> None:
    cached_on_the_hub(whole, offline, revision="v1.0")
    assert orthrus(*ask("target.source=owner/name@v1.0")).code == 0
    done = orthrus(*ask("target.source=owner/name@v2.0"))
    assert done.code == 2
    assert f"{ERROR}target.source: 'owner/name@v2.0' is no local path, it is not in the hub's cache" in done.err


@pytest.mark.thorough
def test_a_program_of_its_own_goes_by_the_environment(
    whole: Path, somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(somewhere / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached_on_the_hub(whole, somewhere / "home" / "hub")
    assert outcome(*ask("target.source=owner/name")).json()["new_tokens"] > 0


def test_fetch_prints_where_the_model_is(whole: Path, offline: Path, orthrus: InProcess) -> None:
    snapshot = cached_on_the_hub(whole, offline)
    assert orthrus("fetch", whole).out == f"{whole}\n"
    assert orthrus("fetch", f"path:{whole}").out == f"{whole}\n"
    done = orthrus("fetch", "owner/name")
    assert (done.code, done.out, done.err) == (0, f"{snapshot}\n", "fetching owner/name from the hub\n")
    assert orthrus("fetch", "./gone").error() == "target.source: there is no file or directory './gone'"


def test_a_file_inside_a_package(whole: Path, site: Site, orthrus: InProcess) -> None:
    package = site.folder / "some_models"
    shutil.copytree(whole, package / "tiny")
    (package / "__init__.py").write_text("raise AssertionError('finding a file imports nothing')")
    assert orthrus(*ask("target.source=package:some_models/tiny")).code == 0
    error = orthrus(*ask("target.source=package:some_models/big")).error()
    assert error == "target.source: there is no file 'big' in the package 'some_models'"


def test_the_model_ends_an_answer_with_its_own_tokens(whole: Path, orthrus: InProcess) -> None:
    shutil.copytree(whole, "model")
    first = orthrus(*ask()).json()["token_ids"][0]
    settings = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps({**settings, "eos_token_id": [5, first]}))
    assert orthrus(*ask()).json()["finish_reason"] == "stop_token"
