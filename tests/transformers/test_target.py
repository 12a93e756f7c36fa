"""The target `transformers`: passes, stops from configs, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from support.building import buffers_of, decode_with, family_oracle, model_of, transformers_target
from support.families import CONTEXT, FAMILIES, tiny_model
from support.thorough import thorough_but
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus import BuildError, Context, Decoder, Scheduler, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.loading.generation_settings import end_tokens
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus


def target_of(model: object) -> TransformersTarget:
    return TransformersTarget(model, None, DynamicCache(), SdpaAttention())


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_prefill_projects_one_row_of_each_prompt_and_no_more(chunk: int) -> None:
    target = transformers_target("llama", chunk=chunk)
    projected: list[int] = []
    head = model_of(target).get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, output: projected.append(output.shape[1]))
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    context = Context(prompts, Stop(1), vocabulary_size=40)
    target.start(context)
    logits = target.prefill(context, Scheduler(context).refill())
    handle.remove()
    assert set(projected) == {1}
    alone = [target.logits(prompt, 1) for prompt in prompts]
    torch.testing.assert_close(logits[:, 0], torch.cat(alone), rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", thorough_but(["llama", "gemma3_text", "lfm2"], FAMILIES))
def test_logits_of_a_text_come_in_chunks(family: str) -> None:
    target, text = transformers_target(family), [number % 40 for number in range(3, 30)]
    config = model_of(target).config
    if not hasattr(config, "layer_types") and family != "mistral":
        config.sliding_window = None  # the family has none; transformers' own caches would believe it
    near = 1e-5 if family == "gemma2" else 1e-9  # its own attention takes softmax in float32
    wanted = target.logits(text, len(text))
    for chunk in (1, 7, 100):
        parts = list(target.text_logits(text, chunk))
        assert [len(part) for part in parts] == [min(chunk, len(text) - start) for start in range(0, len(text), chunk)]
        torch.testing.assert_close(torch.cat(parts), wanted, rtol=0, atol=near)


def test_logits_of_a_text_come_between_steps() -> None:
    target = transformers_target("llama")
    session = Decoder.of(target, NoDrafter(), Consensus(), Stop(12)).session(1)
    session.add([1, 2, 3])
    chunks, tokens = target.text_logits(list(range(1, 30)), 4), list[int]()
    while session.pending:
        tokens += [token for event in session.advance() for token in event.token_ids]
        next(chunks, None)
    assert tuple(tokens) == family_oracle("llama")([1, 2, 3], Stop(12)).token_ids


def test_a_padded_batch_gives_what_single_prompts_give() -> None:
    target = transformers_target("qwen2")
    prompts = [[5] * 20, [1], [7, 3, 9, 2], [4, 4]]
    together = decode_with(target, NoDrafter(), prompts, Stop(12))
    for prompt, result in zip(prompts, together, strict=True):
        assert decode_with(target, NoDrafter(), [prompt], Stop(12))[0].token_ids == result.token_ids


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_may_fill_the_context_to_its_last_position(family: str) -> None:
    target = transformers_target(family)
    prompts = [[1] * (CONTEXT - 3), [2]]
    results = decode_with(target, NoDrafter(), prompts, Stop(8))
    oracle = family_oracle(family)
    assert [result.token_ids for result in results] == [oracle(prompt, Stop(8)).token_ids for prompt in prompts]
    assert len(results[0].token_ids) == 3


def test_committed_slots_are_the_keys_of_the_committed_tokens() -> None:
    cache = DynamicCache()
    target = transformers_target("llama", cache)
    result = decode_with(target, NoDrafter(), [[1, 2, 3]], Stop(5))[0]
    assert cache.lengths.tolist() == [3 + 5 - 1]  # all but the anchor
    kept = [keys[:, :, :7].clone() for keys in buffers_of(cache)[0]]
    decode_with(target, NoDrafter(), [[1, 2, 3, *result.token_ids]], Stop(1))
    for keys, old in zip(buffers_of(cache)[0], kept, strict=True):
        torch.testing.assert_close(keys[:, :, :7], old, rtol=0, atol=1e-10)


def test_all_end_tokens_of_all_configs_count() -> None:
    model = tiny_model("llama")
    model.config.eos_token_id = 0  # a token like any other
    model.generation_config.eos_token_id = [5, 7]
    assert end_tokens(model, None) == {0, 5, 7}
    model.config.eos_token_id = None
    model.generation_config.eos_token_id = None
    assert end_tokens(model, None) == frozenset()


def test_logits_are_the_unmodified_models() -> None:
    own = tiny_model("mistral")
    target = target_of(copy.deepcopy(own))
    tokens = list(range(20))
    with torch.no_grad():
        wanted = own(torch.tensor([tokens])).logits[0]
    assert torch.equal(target.logits(tokens, 20), wanted)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("minimax", {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}),
        ("recurrent_gemma", {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}),
        ("bloom", {"hidden_size": 32, "n_head": 4}),
        ("xglm", {"d_model": 32, "attention_heads": 4, "ffn_dim": 32, "num_layers": 2}),
        ("mpt", {"d_model": 32, "n_heads": 4}),
    ],
)
def test_a_model_that_cannot_be_rolled_back_or_routed_is_refused(family: str, settings: dict[str, int]) -> None:
    config = CONFIG_MAPPING[family](vocab_size=40, num_hidden_layers=2, n_layer=2, n_layers=2, **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(BuildError, match=f"model type '{family}'"):
        target_of(model)


class BackwardCache(DynamicCache):
    """Write every pass in the wrong order."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots.flip(1), extent, rows)


def test_a_cache_that_does_not_fit_is_refused_by_the_probe() -> None:
    with pytest.raises(BuildError, match="does not give its own logits"):
        TransformersTarget(tiny_model(), None, BackwardCache(), SdpaAttention())
