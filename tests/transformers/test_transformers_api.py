"""Everything that the plugin relies on in transformers is as it must be, and what is not is named."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import transformers
from support.families import FAMILIES, tiny_model
from support.program import ROOT

from orthrus_transformers import transformers_api
from orthrus_transformers.transformers_api import NAMES, broken_reliances, cache_argument


def test_this_release_has_all_that_is_relied_on() -> None:
    assert broken_reliances() == []


def test_a_name_that_went_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transformers_api.NAMES, "transformers", ("AttentionInterface", "Gone"))
    assert broken_reliances() == ["transformers.Gone: it lacks Gone"]


def test_a_module_that_went_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transformers_api.NAMES, "transformers.modeling_attn_mask_utils_of_before", ("x",))
    [told] = broken_reliances()
    assert told.startswith("transformers.modeling_attn_mask_utils_of_before.x: ModuleNotFoundError")


def test_an_argument_of_another_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_api, "CACHE_ARGUMENTS", ("kv",))
    told = broken_reliances()
    assert "the layers of llama: it takes no argument kv" in told
    assert any(sentence.startswith("what layers hand to the attention and to the cache: ") for sentence in told)


def test_an_attention_that_is_called_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    def forward(self: object, hidden_states: object, *args: object, **kwargs: object) -> tuple[object, None]:
        return hidden_states, None

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    [told] = broken_reliances()
    assert (
        told
        == "what layers hand to the attention and to the cache: cache.update is called for layers [], not for 0 and 1"
    )


def imported_names(file: Path) -> set[tuple[str, str]]:
    """Return what a file imports from transformers, but for type checkers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {
        (node.module, alias.name) for node in nodes if (node.module or "").partition(".")[0] == "transformers"
        for alias in node.names
    }  # fmt: skip


def test_every_name_that_is_imported_is_listed() -> None:
    files = sorted((ROOT / "plugins").rglob("*.py"))
    imported = {name for file in files for name in imported_names(file)}
    listed = {(module, name) for module, names in NAMES.items() for name in names}
    assert imported and imported <= listed


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_its_cache_under_a_known_name(family: str) -> None:
    name = cache_argument(tiny_model(family))
    newer = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (5, 24)
    assert name == ("cache" if newer else "past_key_values")
