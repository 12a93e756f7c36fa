"""Heads that are trained for a moment are accepted, and change no text; heads of zeros guess badly."""

import random

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from orthrus import InputError, load, summarize
from orthrus_medusa.heads import BLOCKS
from orthrus_medusa.train import train, written

PARTS = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "stop": {"max_new_tokens": 40}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Give a decoder over a tiny model of random weights, whose answers go in circles."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=40, num_key_value_heads=2, initializer_range=0.02, eos_token_id=None, **sizes)
    folder = tmp_path_factory.mktemp("target")
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data *= 20  # a model that is sure of what it says, as trained ones are
    model.save_pretrained(folder)
    target = {"name": "transformers", "source": str(folder), "dtype": "float32", "device": "cpu"}
    return load({**PARTS, "target": target, "drafter": {"name": "none"}})


def decoded(plain, folder, blocks, prompts):
    folder.mkdir()
    save_file({BLOCKS: blocks}, folder / "model.safetensors")
    decoder = load({**PARTS, "drafter": {"name": "medusa", "source": str(folder)}}, target=plain.target)
    return decoder.generate(prompts, batch=4)  # rows come, go and move


def test_trained_heads_are_accepted_and_change_no_text(plain, tmp_path):
    chooser = random.Random(0)
    prompts = [[chooser.randrange(40) for _ in range(chooser.randrange(1, 9))] for _ in range(50)]
    unseen, seen = prompts[:10], prompts[10:]
    expected = [answer.token_ids for answer in plain.generate(unseen)]
    blocks = train(plain.target, written(plain, seen), heads=3, steps=200)
    accepted = {}
    for name, given in (("trained", blocks), ("zeros", torch.zeros_like(blocks))):
        answers = decoded(plain, tmp_path / name, given, unseen)
        assert [answer.token_ids for answer in answers] == expected
        accepted[name] = summarize([answer.measures for answer in answers]).accepted_length.pooled
    assert accepted["trained"] > max(1, 2 * accepted["zeros"])


def test_what_is_written_are_states_of_the_texts(plain):
    """The target's head says of each state the token that follows it."""
    for tokens, states in written(plain, [[1, 2, 3], [4] * 20]):
        assert len(states) == len(tokens) - 1
        answer = tokens[-40:]
        assert torch.equal(plain.target.head(states[None])[0].argmax(-1)[-40:], answer)


@pytest.mark.parametrize(("shape", "sentence"), [((2, 8, 8), r"\[2, 8, 8\], not \[2, 32, 32\]"), (None, "no weights")])
def test_heads_that_do_not_fit_are_refused(plain, tmp_path, shape, sentence):
    if shape:
        save_file({BLOCKS: torch.zeros(shape)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=sentence):
        load({**PARTS, "drafter": {"name": "medusa", "source": str(tmp_path)}}, target=plain.target)
