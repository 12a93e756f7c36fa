"""Which token may be a mask: one that never stands in a text, or one that is allowed all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.released import load
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from orthrus import InputError, OrthrusError
from orthrus_diffusion.view_files.formats import save_view
from orthrus_diffusion.view_files.mask_token import check_mask_token
from orthrus_transformers.target import TransformersTarget

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPACE, THINK, SPECIAL, UNUSED = 26, 27, 28, 31


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny model with letters, a space that is lost at a text's beginning, tokens with names, and spare rows."""
    folder = tmp_path_factory.mktemp("mask") / "model"
    config = Qwen3Config(
        vocab_size=UNUSED + 1, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate([*LETTERS, "\u2581"])}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def target(model: Path) -> TransformersTarget:
    target = load(model, name="none").target
    assert isinstance(target, TransformersTarget)
    assert target.tokenizer is not None and target.tokenizer.encode("abc", chat=False) == [0, 1, 2]
    return target


@pytest.mark.parametrize("token", [SPECIAL, SPECIAL + 1, UNUSED])
def test_special_and_unused_tokens_are_masks(token: int, target: TransformersTarget) -> None:
    check_mask_token(target, token)


@pytest.mark.parametrize(("token", "text"), [(0, "'a'"), (25, "'z'"), (SPACE, "' '"), (THINK, "'<think>'")])
def test_a_token_that_stands_in_texts_is_explained(token: int, text: str, target: TransformersTarget) -> None:
    with pytest.raises(InputError) as caught:
        check_mask_token(target, token)
    assert f"the mask token {token} is an ordinary token of '" in str(caught.value)
    assert f"it stands for {text}, which a view could not tell" in str(caught.value)
    assert "allow_ordinary_mask=true" in str(caught.value)
    check_mask_token(target, token, allow_ordinary=True)


def test_a_token_that_does_not_exist_is_never_allowed(target: TransformersTarget) -> None:
    with pytest.raises(InputError, match=r"the mask token 32 is not in the vocabulary of '.*', which has 32 tokens"):
        check_mask_token(target, UNUSED + 1, allow_ordinary=True)


def test_saving_and_attaching_ask_for_leave(model: Path, target: TransformersTarget, tmp_path: Path) -> None:
    target.attach_view("copy")
    with pytest.raises(InputError, match="is an ordinary token"):
        save_view(target, "copy", tmp_path / "view", 4, 3)
    assert not (tmp_path / "view").exists()
    save_view(target, "copy", tmp_path / "view", 4, 3, allow_ordinary_mask=True)
    view = str(tmp_path / "view")
    assert load(model, view=view).generate([[1, 2]])  # its config allows it
    file = tmp_path / "view" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    assert config.pop("allow_ordinary_mask") is True
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(OrthrusError, match=r"drafter\.view: the mask token 3 is an ordinary token"):
        load(model, view=view)
    allowed = load(model, view=view, allow_ordinary_mask=True).generate(["abc"])
    assert allowed[0].token_ids == load(model, name="none").generate(["abc"])[0].token_ids


def test_without_a_tokenizer_any_token_may_be_the_mask(model: Path, tmp_path: Path) -> None:
    target = load(model, name="none").target
    assert isinstance(target, TransformersTarget)
    target.tokenizer = None
    check_mask_token(target, 0)


@pytest.mark.thorough
@pytest.mark.model
def test_the_mask_of_smollm2_is_special() -> None:
    import orthrus

    decoder = orthrus.load("configs/recipes/smollm2-plain.yaml", target={"dtype": "bfloat16", "device": "cpu"})
    assert isinstance(decoder.target, TransformersTarget) and decoder.target.device == torch.device("cpu")
    check_mask_token(decoder.target, 3)  # <repo_name>
    for ordinary in (17, 198, 5000, 49151):
        with pytest.raises(InputError, match="is an ordinary token"):
            check_mask_token(decoder.target, ordinary)
