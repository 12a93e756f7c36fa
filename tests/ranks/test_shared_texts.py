"""Texts of several processes that hold a part of a model each: those of one process that holds all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.ranks import Ranks, answers_by_ranks, decoded_by_ranks, orthrus_ranks
from support.released import target_at
from support.shared_models import COUPLED, GREEDY, cell, prompts_of, saved_model
from support.successors import random_head
from support.views import random_view

import orthrus
from orthrus_diffusion.view_files.formats import save_view


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return where models are: qwen3 with its own head, llama with a tied one, and smaller ones, one short."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "qwen3": saved_model(folder / "qwen3", "qwen3", tie_word_embeddings=False),
        "llama": saved_model(folder / "llama", "llama", tie_word_embeddings=True),
        "small": saved_model(folder / "small", "llama", 1, tie_word_embeddings=True),
        "short": saved_model(folder / "short", "llama", 1, tie_word_embeddings=True, max_position_embeddings=26),
    }


def drafters(models: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return drafters that look things up, that pass through the shared model, and that have a model of their own."""
    return {
        "prompt_lookup": {"name": "prompt_lookup"},
        "view": {"name": "diffusion", "view": "copies", "block": 6, "allow_ordinary_mask": True},
        "draft_model": {"name": "draft_model", "source": models["small"], "length": 4},
    }


def held_by_lead(models: dict[str, str], **options: Any) -> dict[str, Any]:
    """Return the drafter whose model rank 0 alone holds."""
    return {**drafters(models)["draft_model"], "held_by": "lead", **options}


def plain_texts(config: dict[str, Any], prompts: list[list[int]]) -> list[list[int]]:
    """Return what one process decodes without drafts, by the model's own modules."""
    target = {**config["target"], "engine": "eager"}
    target.pop("parallel")
    decoder = orthrus.load({**config, "target": target, "drafter": {"name": "none"}, "cache": {"name": "dynamic"}})
    return [list(result.token_ids) for result in decoder.generate(prompts, batch=4)]


def assert_same_passes(config: dict[str, Any], answers: list[Any], prompts: list[list[int]]) -> None:
    """Hold the measures of processes to those of one, in which a draft model's weights are another share of none."""
    target = {key: value for key, value in config["target"].items() if key != "parallel"}
    alone = orthrus.load({**config, "target": target}).generate(prompts, batch=4)
    assert [passes for _, passes in answers] == pytest.approx([result.measures.passes for result in alone])
    assert any(passes % 1 for _, passes in answers)  # the share shows


def assert_same_texts(count: int, cells: list[dict[str, Any]], prompts: list[list[int]]) -> None:
    every = answers_by_ranks(count, cells, prompts)
    for number, config in enumerate(cells):
        expected = plain_texts(config, prompts)
        for rank, answers in enumerate(every):
            assert [tokens for tokens, _ in answers[number]] == expected, (rank, config)
            assert answers[number] == every[0][number], (rank, config)
        if config["drafter"]["name"] == "draft_model":
            assert_same_passes(config, every[0][number], prompts)


@pytest.mark.thorough
def test_two_processes_decode_the_text_of_one(models: dict[str, str]) -> None:
    by_name = drafters(models)
    assert_same_texts(
        2,
        [
            cell(models["qwen3"], by_name["prompt_lookup"], 2, cache={"name": "paged"}, **COUPLED),
            cell(models["llama"], by_name["view"], 2, cache={"name": "static"}, engine="fused"),
            cell(models["qwen3"], by_name["draft_model"], 2, engine="packed"),
            cell(models["qwen3"], held_by_lead(models, branches=2), 2, **COUPLED),
        ],
        prompts_of(5),
    )


@pytest.mark.nightly
@pytest.mark.parametrize("count", [2, 4])
def test_forty_prompts_by_three_drafters_are_those_of_one_process(models: dict[str, str], count: int) -> None:
    caches = [{"name": "dynamic"}, {"name": "static"}, {"name": "paged"}]
    cells = [
        cell(models[model], drafter, count, cache=cache, engine=engine, **verifier)
        for model, engine in (("qwen3", "eager"), ("llama", "fused"))
        for verifier in (GREEDY, COUPLED)
        for drafter, cache in zip(drafters(models).values(), caches, strict=True)
    ]
    assert_same_texts(count, cells, prompts_of(40))


@pytest.mark.nightly
@pytest.mark.parametrize("model", ["qwen3", "llama"])  # whose output head is divided, and whose is the table
def test_drafts_that_see_each_other_are_those_of_one_process(
    model: str, models: dict[str, str], tmp_path: Path
) -> None:
    target = target_at(models[model])
    random_view(target, "noisy", noise=0.05)
    head = random_head(target, "noisy", 0.3).weights()
    save_view(target, "noisy", tmp_path / "view", 6, 3, allow_ordinary_mask=True, successor=head)
    drafter = {"name": "diffusion", "view": str(tmp_path / "view"), "successor": True}
    cells = [
        cell(models[model], {**drafter, "tree": nodes}, 2, engine=engine, cache={"name": "static"}, **verifier)
        for verifier in (GREEDY, COUPLED)
        for nodes, engine in ((None, "eager"), (9, "fused"))
    ]
    assert_same_texts(2, cells, prompts_of(6))


@pytest.mark.nightly
def test_a_drafter_that_chooses_how_much_it_drafts_does_so_alike_on_all_ranks(models: dict[str, str]) -> None:
    by_name = drafters(models)
    cells = [
        cell(models["qwen3"], {**by_name["view"], "block": "auto"}, 2),
        cell(models["qwen3"], {**by_name["draft_model"], "length": "auto"}, 2, **COUPLED),
        cell(models["qwen3"], {**by_name["view"], "tree": 5}, 2),
        cell(models["llama"], {**by_name["view"], "tree": 5}, 2, **COUPLED),
        cell(models["qwen3"], {"name": "cascade", "drafters": [by_name["prompt_lookup"], by_name["view"]]}, 2),
        cell(models["llama"], by_name["view"], 2, verifier={"name": "rejection"}, sampling={"temperature": 1.0}),
    ]
    every = decoded_by_ranks(2, cells, prompts_of(12))
    assert every[0] == every[1]
    for number, config in enumerate(cells[:-1]):  # what rejection draws depends on the drafts
        assert every[0][number] == plain_texts(config, prompts_of(12))


CUT = {"verifier": {"name": "coupled"}, "sampling": {"temperature": 0.9, "top_k": 20, "top_p": 0.9}}
REJECTION = {"verifier": {"name": "rejection"}, "sampling": CUT["sampling"]}


@pytest.mark.nightly
def test_a_draft_model_that_rank_0_alone_holds_drafts_for_all(models: dict[str, str]) -> None:
    paged, lookup = {"name": "paged", "block": 8, "blocks": 16}, {"name": "prompt_lookup"}
    own = {"name": "transformers", "source": models["small"], "dtype": "float32", "device": "cpu"}
    cells = [
        cell(models["qwen3"], held_by_lead(models, source=models["short"]), 2),  # whose context ends before texts do
        cell(models["llama"], held_by_lead(models), 2, cache={"name": "static"}, engine="fused", **COUPLED),
        cell(models["llama"], held_by_lead(models), 2, **CUT),
        cell(models["qwen3"], held_by_lead(models, length="auto"), 2),
        cell(models["llama"], held_by_lead(models, length="auto"), 2, **COUPLED),
        cell(models["qwen3"], held_by_lead(models, branches=2), 2),
        cell(models["llama"], held_by_lead(models, branches=3), 2, **CUT),
        cell(models["qwen3"], held_by_lead(models, source=None, target={**own, "cache": paged}), 2),
        cell(models["qwen3"], {"name": "cascade", "drafters": [lookup, held_by_lead(models)]}, 2),
        cell(models["llama"], held_by_lead(models), 2, **REJECTION),
        cell(models["llama"], held_by_lead(models, branches=2), 2, **REJECTION),
    ]
    every = decoded_by_ranks(2, cells, prompts_of(12))
    assert every[0] == every[1]
    for number, config in enumerate(cells[:-2]):  # what rejection draws depends on the drafts
        assert every[0][number] == plain_texts(config, prompts_of(12)), config


HELD = """
import gc, json, sys
import orthrus
from transformers import PreTrainedModel

decoder = orthrus.load(json.loads(sys.argv[1]))
results = decoder.generate([[1, 2, 3, 1, 2], [4]], batch=2)
models = [part for part in gc.get_objects() if isinstance(part, PreTrainedModel)]
layers = sorted({model.config.num_hidden_layers for model in models})
print(json.dumps([layers, [result.measures.passes for result in results], decoder.drafter.fingerprint()]))
"""


@pytest.mark.nightly
def test_the_other_rank_holds_nothing_of_it_and_tells_the_same_of_it(models: dict[str, str]) -> None:
    config = cell(models["qwen3"], held_by_lead(models), 2)
    lead, other = (json.loads(outcome.out) for outcome in Ranks(2, ["-c", HELD, json.dumps(config)]).wait())
    assert lead[0] == [1, 2] and other[0] == [2]  # layers of the models that there are
    assert lead[1:] == other[1:]


@pytest.mark.nightly
def test_a_draft_model_that_rank_0_cannot_load_ends_all_with_one_sentence(
    models: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(cell(models["qwen3"], held_by_lead(models, source="/nowhere"), 2)))
    outcomes = orthrus_ranks(2, "run", "--config", str(tmp_path / "run.json"), "--prompt", "a")
    assert [outcome.code for outcome in outcomes] == [2, 2], outcomes
    said = "".join(outcome.err for outcome in outcomes)
    assert said.count("orthrus: error: ") == 1 and "the draft model of drafter 'draft_model'" in said, said
