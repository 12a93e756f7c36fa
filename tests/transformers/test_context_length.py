"""How long texts may be: what configs of several kinds say, and what a user is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.families import CONTEXT, FAMILIES, tiny_model
from support.longrope import ANGLES, ORIGINAL, longrope_config, longrope_model
from transformers import CONFIG_MAPPING

import orthrus
from orthrus_transformers.model.context_length import ends_early, max_length

NAME = "original_max_position_embeddings"
BARE = {key: value for key, value in ANGLES.items() if key != "rope_type"}


def model_of(config: Any) -> Any:
    return SimpleNamespace(config=config)


def foreign(**entries: Any) -> Any:
    """Return a model whose config is of somebody else's code."""
    config = SimpleNamespace(model_type="foreign", **entries)
    config.get_text_config = lambda: config
    return model_of(config)


@pytest.mark.parametrize("family", ["phi3", "llama", "gemma3_text"])
@pytest.mark.parametrize(("original", "length"), [(ORIGINAL, ORIGINAL), (CONTEXT, CONTEXT), (2 * CONTEXT, CONTEXT)])
def test_texts_end_with_the_first_set_of_angles(family: str, original: int, length: int) -> None:
    model = model_of(longrope_config(family, original))
    assert max_length(model) == length
    assert (ends_early(model) is None) is (length == CONTEXT)


def test_a_config_that_says_it_as_older_versions_did() -> None:
    given = {"num_attention_heads": 4, "hidden_size": 32, "max_position_embeddings": CONTEXT, NAME: ORIGINAL}
    assert max_length(model_of(CONFIG_MAPPING["phi3"](**given, rope_scaling={**BARE, "type": "longrope"}))) == ORIGINAL


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])  # as Phi-3's own code calls it
def test_configs_of_others(kind: str) -> None:
    old = {**BARE, "type": kind}
    assert max_length(foreign(max_position_embeddings=CONTEXT, rope_scaling={**old, NAME: ORIGINAL})) == ORIGINAL
    assert max_length(foreign(max_position_embeddings=CONTEXT, rope_scaling=old, **{NAME: ORIGINAL})) == ORIGINAL
    assert max_length(foreign(max_position_embeddings=CONTEXT, rope_scaling=old)) == CONTEXT
    assert max_length(foreign(rope_scaling={**old, NAME: ORIGINAL})) == ORIGINAL


@pytest.mark.parametrize(
    "angles", [{"rope_type": "yarn", "factor": 4.0}, {"rope_type": "llama3", "factor": 4.0}, {"rope_type": "default"}]
)
def test_other_angles_go_as_far_as_the_config_says(angles: dict[str, Any]) -> None:
    model = foreign(max_position_embeddings=CONTEXT, rope_parameters={**angles, NAME: ORIGINAL}, **{NAME: ORIGINAL})
    assert (max_length(model), ends_early(model)) == (CONTEXT, None)


@pytest.mark.parametrize("entries", [{}, {"max_position_embeddings": None}, {"max_position_embeddings": -1}])
def test_a_config_that_does_not_say(entries: dict[str, Any]) -> None:
    model = foreign(rope_parameters=None, **entries)
    assert (max_length(model), ends_early(model)) == (None, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_families_have_their_whole_context(family: str) -> None:
    assert max_length(tiny_model(family)) == CONTEXT


def test_a_user_is_told_once_why_texts_end(tmp_path: Path) -> None:
    longrope_model().save_pretrained(tmp_path)
    heard: list[str] = []
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    config = {"target": {"name": "transformers", "source": str(tmp_path), "device": "cpu"}, **parts}
    decoder = orthrus.load({**config, "stop": {"max_new_tokens": CONTEXT}}, notify=heard.append)
    assert len(decoder.generate([[1, 2]])[0].token_ids) == ORIGINAL - 2
    assert heard == [
        "model type 'phi3' has other rotary positions (longrope) for all tokens of a pass that goes beyond 24, so"
        " prompt and answer together end there"
    ]
