"""What each rank holds of a model: all parts together are the model, and what cannot be shared is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.shared_models import saved_model
from support.thorough import nightly_but
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus import BuildError
from orthrus.errors import GroupError
from orthrus.ranks.group import RankGroup, divisors
from orthrus.ranks.launch import launched
from orthrus.ranks.together import Together
from orthrus.values import Draft, Verdict
from orthrus_transformers.loading.random_weights import make_random_model, make_random_shards
from orthrus_transformers.loading.sharded_weights import load_shards
from orthrus_transformers.model.pass_facts import weight_bytes
from orthrus_transformers.model.shards import shards_of, tokens_of_a_rank

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "granite", "smollm3", "starcoder2", "gpt_neox"]
SHARED_KEYS = {"gpt_neox": {"num_key_value_heads": 8}}
NORMS = 2**12  # bytes of what every rank has
CPU = torch.device("cpu")


class StillGroup:
    """A group of which only this rank is there; `others`: what the lead says."""

    def __init__(self, rank: int, count: int, says: Any = None) -> None:
        self.rank, self.count, self.leads, self._says = rank, count, rank == 0, says

    def sum(self, tensor: Tensor) -> Tensor:
        """Return what this rank has."""
        return tensor

    def agree_numbers(self, *values: float) -> list[float]:
        """Return what the lead says."""
        return list(self._says)

    def from_lead(self, tensor: Tensor) -> Tensor:
        """Return what the lead has: one more."""
        return tensor + 1


def group(rank: int, count: int, says: Any = None) -> RankGroup:
    return cast(RankGroup, StillGroup(rank, count, says))


def parts_of(folder: Path, count: int, **more: Any) -> list[Any]:
    return [load_shards(folder, (), torch.float32, CPU, group(rank, count), **more) for rank in range(count)]


def together(parts: list[Any], name: str) -> Tensor:
    """Return the parameter that all ranks' parts make."""
    shards = shards_of(parts[0])
    assert shards is not None
    weights = [part.get_parameter(name) for part in parts]
    dimension = shards.parts[name].dimension
    if dimension is None:
        assert all(torch.equal(weight, weights[0]) for weight in weights)
        return cast(Tensor, weights[0])
    return torch.cat(weights, dimension).narrow(dimension, 0, shards.parts[name].shape[dimension])


@pytest.mark.parametrize(
    ("family", "tied"),
    nightly_but(
        [("qwen3", True), ("gpt_neox", False)],  # the files of the second have another name for its output head
        [*((name, name != "qwen2") for name in FAMILIES), ("gpt_neox", False)],
    ),
)
def test_all_parts_together_are_the_model(family: str, tied: bool, tmp_path: Path) -> None:
    saved_model(tmp_path, family, tie_word_embeddings=tied, **SHARED_KEYS.get(family, {}))
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    parts = parts_of(tmp_path, 4)
    for name, weight in whole.named_parameters():
        assert torch.equal(together(parts, name), weight), name
    held = [sum(weight.numel() for weight in part.parameters()) for part in parts]
    assert max(held) < 0.35 * whole.num_parameters()
    shared = [part.get_input_embeddings().weight is part.get_output_embeddings().weight for part in parts]
    assert shared == [tied] * 4
    for name, buffer in whole.named_buffers():
        assert torch.equal(parts[3].get_buffer(name), buffer), name


@pytest.mark.parametrize(
    ("family", "tied"),
    nightly_but([("qwen3", True), ("llama", False)], [*((name, True) for name in FAMILIES), ("llama", False)]),
)
@pytest.mark.parametrize("count", [2, 4])
def test_each_rank_counts_the_weights_that_one_process_has(family: str, tied: bool, count: int, tmp_path: Path) -> None:
    """A vocabulary of 97 is no multiple of either: the last rank holds rows of no token, which do not count."""
    saved_model(tmp_path, family, tie_word_embeddings=tied, **SHARED_KEYS.get(family, {}))
    whole = weight_bytes(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32))
    parts = parts_of(tmp_path, count)
    assert [weight_bytes(part, whole=True) for part in parts] == [whole] * count
    held = {weight_bytes(part) for part in parts}
    assert len(held) == 1 and whole / count < held.pop() < 1.2 * whole / count + NORMS


def test_random_weights_are_those_that_one_process_has(tmp_path: Path) -> None:
    config = CONFIG_MAPPING["llama"](vocab_size=5000, hidden_size=64, intermediate_size=64, num_hidden_layers=1)
    config.update({"num_attention_heads": 4, "num_key_value_heads": 4, "random_weights_seed": 3})
    config.save_pretrained(tmp_path)
    whole = make_random_model(tmp_path, torch.float32, CPU)
    parts = [make_random_shards(tmp_path, torch.float32, CPU, group(rank, 2)) for rank in range(2)]
    for name, weight in whole.named_parameters():
        assert torch.equal(together(parts, name), weight), name


def test_a_large_vocabulary_is_cut_where_kernels_can_take_it() -> None:
    assert tokens_of_a_rank(151_936, 2) == 76_032
    assert tokens_of_a_rank(97, 4) == 25


@pytest.mark.parametrize(
    ("family", "said"),
    nightly_but(
        [],
        [
            ("mixtral", "moe_tp_experts"),
            ("olmo2", "colwise_gather_output"),
            ("gpt2", "no tensor-parallel plan"),
            ("lfm2", "no tensor-parallel plan for the layers"),
        ],
        thorough=[("mixtral", "moe_tp_experts")],
    ),
)
def test_a_plan_that_is_not_known_is_refused(family: str, said: str, tmp_path: Path) -> None:
    saved_model(tmp_path, family)
    with pytest.raises(BuildError, match=said):
        load_shards(tmp_path, (), torch.float32, CPU, group(0, 2))


def test_a_number_that_does_not_divide_is_refused_with_those_that_would(tmp_path: Path) -> None:
    saved_model(tmp_path, "llama", 1)
    with pytest.raises(BuildError, match="which 3 does not divide; 2, 4 would work"):
        load_shards(tmp_path, (), torch.float32, CPU, group(0, 3))
    assert divisors([8, 12]) == [1, 2, 4]


def test_weights_that_do_not_make_the_model_are_refused(tmp_path: Path) -> None:
    saved_model(tmp_path, "llama", 1)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    with pytest.raises(BuildError, match=r"model.layers.1.\S+ is missing"):
        load_shards(tmp_path, (), torch.float32, CPU, group(0, 2))
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 0'))
    with pytest.raises(BuildError, match="holds weights that its config has no place for"):
        load_shards(tmp_path, (), torch.float32, CPU, group(0, 2))


def test_a_file_with_both_names_of_a_weight_is_refused(tmp_path: Path) -> None:
    saved_model(tmp_path, "gpt_neox", 1, tie_word_embeddings=False, **SHARED_KEYS["gpt_neox"])
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "lm_head.weight": weights["embed_out.weight"] + 1}, file, {"format": "pt"})
    with pytest.raises(BuildError, match=r"holds weights that its config has no place for: embed_out\.weight"):
        load_shards(tmp_path, (), torch.float32, CPU, group(0, 2))


def test_a_launch_is_what_torchrun_says() -> None:
    assert launched({}) is None
    assert launched({"WORLD_SIZE": "1", "RANK": "0"}) is None
    launch = launched({"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "MASTER_PORT": "5", "MASTER_ADDR": "a"})
    assert launch is not None
    assert (launch.rank, launch.count, launch.local_count, launch.leads) == (2, 4, 4, False)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is missing"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', which is no number"),
        ({"WORLD_SIZE": "2", "RANK": "one"}, "RANK is 'one', which is no number"),
    ],
)
def test_variables_that_are_not_torchruns_are_told(variables: dict[str, str], said: str) -> None:
    with pytest.raises(GroupError, match=said):
        launched(variables)


def test_the_leads_draft_and_verdict_take_the_place_of_a_ranks_own() -> None:
    together = Together(group(1, 2, says=(2, False)))
    draft = together.draft(Draft(torch.tensor([[4, 5]]), torch.tensor([1]), host_lengths=(1,)))
    assert (draft.tokens.tolist(), draft.lengths.tolist(), draft.host_lengths) == ([[5, 6]], [2], None)
    verdict = together.verdict(Verdict(torch.tensor([0]), torch.tensor([7])))
    assert (verdict.accepted.tolist(), verdict.next_tokens.tolist()) == ([1], [8])
    with pytest.raises(GroupError, match="rank 1 drafted 3 tokens where rank 0 drafted 2 tokens"):
        together.draft(Draft(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([3])))


def test_a_leads_tree_takes_the_place_of_a_ranks_own() -> None:
    together = Together(group(1, 2, says=(2, True)))
    tree = Draft(torch.tensor([[4, 5]]), torch.tensor([1]), parents=torch.tensor([[-1, -1]]))
    agreed = together.draft(tree)
    assert agreed.parents is not None
    assert (agreed.tokens.tolist(), agreed.parents.tolist(), agreed.lengths.tolist()) == ([[5, 6]], [[0, 0]], [2])
    verdict = together.verdict(Verdict(torch.tensor([0]), torch.tensor([7]), torch.tensor([-1])))
    assert verdict.last is not None and verdict.last.tolist() == [0]
    with pytest.raises(GroupError, match="rank 1 drafted 2 tokens where rank 0 drafted a tree of 2 tokens"):
        together.draft(Draft(torch.tensor([[4, 5]]), torch.tensor([1])))
