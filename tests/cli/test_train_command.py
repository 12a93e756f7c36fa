"""`orthrus train` with bad input: one sentence, exit code 2, and nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.program import InProcess, Outcome
from support.thorough import thorough_but
from support.trainable import STAGES, made

from orthrus_diffusion.training.shards import read_shards, write_shard


def test_a_training_that_is_right(train: Callable[..., Outcome], base: Path) -> None:
    """What the others are told about works; the view is kept as int8, and the target drafts with it."""
    done = train("all")
    assert done.code == 0, done
    assert json.loads(Path("out/view/config.json").read_text())["storage"] == "int8"
    assert set(json.loads(Path("out/eval.json").read_text())) >= {"tokens_per_cycle", "ended"}
    assert not [name for name in made() if name.split("/")[-1].startswith(".")]
    for overrides, storage in (("training.storage=float",), "float"), ((), "int8"):
        shutil.rmtree("out/checkpoints")
        assert train("fit", *overrides).code == 0
        assert json.loads(Path("out/view/config.json").read_text())["storage"] == storage


@pytest.mark.thorough
def test_a_view_and_its_head_go_on_together_on_other_prompts(
    train: Callable[..., Outcome], orthrus: InProcess, config: Path
) -> None:
    """From prompts to eval, twice: the second training begins with what the first has left, and changes both."""
    assert train("all", "fit.successor_rank=8").code == 0
    Path("varied.jsonl").write_text(
        "".join(f'{{"prompt": "{word}"}}\n' for word in ("cab", "fade", "bee", "dad", "gab"))
    )
    again = [
        "train",
        "--config",
        config,
        "--from-view",
        "out/view",
        "training.out=second",
        "prompts.files=[varied.jsonl]",
    ]
    kept = orthrus(*again, "fit.learning_rate=0", "training.out=kept")
    done = orthrus(*again)
    assert kept.code == 0 and done.code == 0, (kept, done)
    views = {name: load_file(f"{name}/view/view.safetensors") for name in ("out", "kept", "second")}
    first, stayed, second = views.values()
    assert first.keys() == stayed.keys() == second.keys()
    for name, weight in first.items():  # as int8 of what was int8: levels stay, scales may round anew
        torch.testing.assert_close(stayed[name], weight, rtol=1e-5, atol=0)
    changed = {name for name, weight in first.items() if not torch.equal(second[name], stayed[name])}
    assert {name.startswith("successor.") for name in changed} == {True, False}
    assert json.loads(Path("second/view/config.json").read_text())["successor_rank"] == 8
    assert set(json.loads(Path("second/eval.json").read_text())) >= {"tokens_per_cycle", "ended"}
    lines = [json.loads(line) for line in Path("second/fit/metrics.jsonl").read_text().splitlines()]
    assert {"divergence", "successor_divergence"} <= lines[0].keys()


def test_overrides_of_the_targets_parts_reach_it(train: Callable[..., Outcome]) -> None:
    assert train("prompts", "cache.name=static", "cache.slots=64").code == 0
    assert train("answers", "cache.name=static", "cache.slots=64", "target.dtype=float32").code == 0


WRONG_CONFIGS = {
    "fit.stepz=3": "unknown option 'stepz' (did you mean 'steps'?)",
    "training.mask_token_id=100000": "training.mask_token_id: the mask token 100000 is not in the vocabulary of '",
    "training.mask_token_id=0": "training.mask_token_id: the mask token 0 is an ordinary token of '",
    "fit.rows_at_a_time=3": "fit.rows_at_a_time: is 3, which does not divide rows, 2",
    "training.start=gone": "gone'",
    "prompts.files=[]": "prompts.sampled: is 0, and no files are named",
    "prompts.files=[gone.jsonl]": "the prompt file 'gone.jsonl' does not exist",
    "eval.files=[gone.jsonl]": "the prompt file 'gone.jsonl' does not exist",
}


@pytest.mark.parametrize("override", WRONG_CONFIGS)
def test_a_wrong_config(override: str, train: Callable[..., Outcome]) -> None:
    """It is told before the first stage has made anything."""
    assert WRONG_CONFIGS[override] in train("all", override).error()
    assert made() == set()


def test_a_config_that_trains_nothing(config: Path, train: Callable[..., Outcome]) -> None:
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if not line.startswith("training")))
    assert train("all").error() == (
        f"'{config}' trains nothing: it has no section 'training', with `out` and `mask_token_id`"
    )


@pytest.mark.thorough
def test_an_ordinary_mask_is_explained_and_may_be_allowed(train: Callable[..., Outcome]) -> None:
    error = train("prompts", "training.mask_token_id=0").error()
    assert "it stands for 'a'" in error and error.endswith("or set training.allow_ordinary_mask=true")
    assert train("all", "training.mask_token_id=0", "training.allow_ordinary_mask=true").code == 0
    assert json.loads(Path("out/view/config.json").read_text())["allow_ordinary_mask"] is True


@pytest.mark.parametrize("stage", thorough_but(["fit"], STAGES))
def test_every_stage_refuses_an_ordinary_mask(stage: str, answered: Path, train: Callable[..., Outcome]) -> None:
    Path("out/view").mkdir()
    before = made()
    assert "the mask token 0 is an ordinary token of '" in train(stage, "training.mask_token_id=0").error()
    assert made() == before


@pytest.mark.parametrize(
    ("stage", "says"),
    [("answers", "run the stage prompts first"), ("fit", "run the stage answers first"), ("eval", "run the stage fit")],
)
def test_a_stage_before_its_turn(stage: str, says: str, train: Callable[..., Outcome]) -> None:
    assert says in train(stage).error()
    assert made() == set()


def test_a_model_without_a_chat_template(train: Callable[..., Outcome]) -> None:
    for file in ("chat_template.jinja",):
        Path("model", file).unlink()
    error = train("prompts", "prompts.sampled=4").error()
    assert "the model has no chat template" in error
    assert "put a chat_template.jinja beside the model's weights, or set prompts.sampled=0 and prompts.files" in error
    assert made() == set()
    assert train("prompts").code == 0


def test_a_model_without_a_tokenizer(train: Callable[..., Outcome]) -> None:
    for file in Path("model").glob("*token*"):
        file.unlink()
    Path("model/chat_template.jinja").unlink()
    assert "has no tokenizer, which training needs" in train("all").error()
    assert made() == set()


@pytest.mark.thorough
def test_other_options_than_the_files_were_made_with(answered: Path, train: Callable[..., Outcome]) -> None:
    before = made()
    error = train("answers", "answers.max_new_tokens=13").error()
    assert error == (
        "what is in 'out/answers' was made with another model or other options (max_new_tokens was 12 and is 13);"
        " delete it, or set another training.out"
    )
    shutil.copyfile("given.jsonl", "other.jsonl")
    assert "files was ['given.jsonl'] and is ['other.jsonl']" in train("prompts", "prompts.files=[other.jsonl]").error()
    assert train("fit").code == 0
    assert "of a training with another fit" in train("fit", "fit.steps=3").error()
    assert before <= made()


def test_a_note_that_cannot_be_read(train: Callable[..., Outcome]) -> None:
    assert train("prompts").code == 0
    Path("out/prompts/made-with.json").write_text("{")
    assert train("prompts").error() == (
        "'out/prompts/made-with.json' cannot be read; delete 'out/prompts' to begin the stage anew"
    )


def damage(file: Path, how: str) -> None:
    from safetensors.torch import load_file, save_file

    if how == "cut":
        file.write_bytes(file.read_bytes()[:-3])
        return
    held = load_file(file)
    if how == "lengths":
        held["answer_lengths"] += 1
    elif how == "more":
        held["answer_lengths"] = torch.cat([held["answer_lengths"], torch.tensor([1], dtype=torch.int32)])
    elif how == "negative":
        held["prompt_lengths"][0] -= 100
        held["answer_lengths"][0] += 100
    else:
        held.pop("tokens")
    save_file(held, file)


@pytest.mark.parametrize("how", ["cut", "lengths", "more", "negative", "tokens"])
def test_a_damaged_shard(how: str, answered: Path, train: Callable[..., Outcome]) -> None:
    damage(answered, how)
    before = made()
    assert train("fit").error() == (
        f"the shard '{answered}' is damaged; delete it, and the stage answers makes it anew"
    )
    assert made() == before


@pytest.mark.thorough
def test_a_shard_that_was_deleted_is_made_anew(answered: Path, train: Callable[..., Outcome]) -> None:
    damage(answered, "cut")
    assert train("fit").code == 2
    answered.unlink()
    assert train("answers").code == train("fit").code == 0


def test_a_shard_of_another_vocabulary(answered: Path, train: Callable[..., Outcome]) -> None:
    write_shard(answered, [([1, 2], [60_000, 3, 4])], 2**16)
    assert "has token 60000; the model has" in train("fit").error()


@pytest.mark.parametrize("texts", [[], [([1, 2], [3])]])
def test_data_with_no_answer_tokens(texts: list[Any], answered: Path, train: Callable[..., Outcome]) -> None:
    write_shard(answered, texts, 2**16)
    assert len(read_shards([answered], 2**16)) == len(texts)
    before = made()
    assert "the answers hold nothing to train on" in train("fit").error()
    assert made() == before


def test_prompts_that_are_all_too_long(train: Callable[..., Outcome]) -> None:
    assert train("prompts").code == 0
    done = train("answers", "answers.max_prompt_tokens=1")
    assert (done.code, done.out) == (0, "")
    assert done.err == ("4 prompts of shard 0 are left out: they have more than answers.max_prompt_tokens=1 tokens\n")
    assert "the answers hold nothing to train on" in train("fit").error()


@pytest.mark.parametrize("stage", thorough_but(STAGES[:1], STAGES[:3]))
def test_a_full_disk(stage: str, train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for before in STAGES[: STAGES.index(stage)]:
        assert train(before).code == 0
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        patch.setattr(Path, "write_text", full)
        held = made()
        error = train(stage).error()
    assert error.endswith("cannot be written: No space left on device; nothing half-written is left")
    assert made() == held
    assert train(stage).code == 0


@pytest.mark.thorough
def test_a_disk_that_is_full_after_the_first_checkpoint(
    answered: Path, train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on from the checkpoint that was whole."""
    import safetensors.torch

    save, calls = safetensors.torch.save_file, []

    def full(tensors: Any, file: Path, *more: Any, **named: Any) -> None:
        calls.append(file)
        save(tensors, file, *more, **named)
        if len(calls) == 2:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        assert "step-00000002' cannot be written: No space left on device" in train("fit").error()
    assert [file.name for file in Path("out/checkpoints").iterdir()] == ["step-00000001"]
    assert train("fit").code == 0
    assert Path("out/view/view.safetensors").is_file()
