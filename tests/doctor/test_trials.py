"""Which trials there are: each is an option of the drafter that changes one thing of what it computes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.published import DATA, installed
from support.random_drafters import random_dflash, random_eagle3

import orthrus_dflash.trials
import orthrus_eagle3.trials
from orthrus import Trial
from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.trials import mask_trials, tap_trials
from orthrus.optional import OffersTrials
from orthrus.options import parse
from orthrus.testing import PlainCache, TableTarget
from orthrus_dflash import layouts as dflash_layouts
from orthrus_dflash.options import DFlashOptions
from orthrus_eagle3 import layouts as eagle3_layouts
from orthrus_eagle3.options import Eagle3Options

FORMATS: dict[str, tuple[Any, Any, Any, int]] = {  # options, reader, trials, layers of the target
    "tiny-dflash-qwen3": (DFlashOptions, dflash_layouts.read_config, orthrus_dflash.trials.trials, 6),
    "tiny-eagle3-llama": (Eagle3Options, eagle3_layouts.read_config, orthrus_eagle3.trials.trials, 7),
}
CHECKPOINTS = [
    ("tiny-dflash-qwen3", "drafter-full", {}),
    ("tiny-dflash-qwen3", "drafter-sliding", {"sample_from_anchor": True, "position_offset": 1}),
    ("tiny-dflash-qwen3", "drafter-options", {}),
    ("tiny-dflash-qwen3", "drafter-full-speculators", {"is_causal": True}),
    ("tiny-eagle3-llama", "head-reduced", {}),
    ("tiny-eagle3-llama", "head-3.1-speculators", {"norm_output": False}),
]


class Tokens:
    """A tokenizer that has names for tokens, and nothing else."""

    def __init__(self, special: dict[str, int], ordinary: int) -> None:
        self.special_tokens = special
        self._ordinary = ordinary

    def vocabulary(self) -> dict[str, int]:
        return {**{str(token): token for token in range(self._ordinary)}, **self.special_tokens}


@dataclass
class Sizes:
    """What trials ask of a target."""

    layer_count: int
    vocabulary_size: int = 96
    tokenizer: Any = None


@pytest.mark.parametrize(("folder", "name", "given"), CHECKPOINTS)
def test_a_trial_changes_one_thing(folder: str, name: str, given: dict[str, Any], tmp_path: Path) -> None:
    """Its options are valid beside those that were given, and no two trials make the same drafter."""
    schema, read, trials, layers = FORMATS[folder]
    directory = installed(DATA / folder, name, tmp_path)

    def config(**more: Any) -> dict[str, Any]:
        options, wrong = parse(schema, {"source": "", **given, **more})
        assert wrong == [], more
        read_config = read(directory, TargetSizes(64, 96, layers), options)
        return {**vars(read_config), "dtype": options.dtype}

    before = config()
    offered = list(
        trials(read(directory, TargetSizes(64, 96, layers), _options(schema, given)), torch.float32, Sizes(layers))
    )
    made = [config(**trial.options) for trial in offered]
    for trial, after in zip(offered, made, strict=True):
        assert len([key for key in before if before[key] != after[key]]) == 1, trial
    assert len({str(after) for after in made}) == len(made)
    assert len({trial.name for trial in offered}) == len(made)
    assert {"boundaries", "rope_theta", "position_offset", "dtype"} <= {
        key for trial in offered for key in trial.options
    }


def _options(schema: Any, given: dict[str, Any]) -> Any:
    return schema(source="", **given)


@pytest.mark.parametrize(
    ("taps", "wanted"),
    [
        ((1, 2), [{"boundaries": [0, 1]}, {"boundaries": [2, 3]}]),
        ((0, "final"), [{"final_norm": False}]),
        ((1, 4), [{"boundaries": [0, 3]}, {"final_norm": True}]),
    ],
)
def test_taps_stay_within_the_target(taps: Any, wanted: list[dict[str, Any]]) -> None:
    assert [trial.options for trial in tap_trials(taps, 4)] == wanted


def test_masks_that_say_so_come_first() -> None:
    """Then what pads, what stands for nothing, and further special tokens: not the mask of now, and not too many."""
    special = {"<s>": 90, "<|mask|>": 91, "<pad>": 92, **{f"<{index}>": 60 + index for index in range(9)}}
    target: Any = Sizes(4, 99, Tokens(special, 60))
    masks = [trial.options["mask_token_id"] for trial in mask_trials(90, target)]
    assert masks == [91, 92, 93, 98, *range(60, 64)]
    assert [trial.options["mask_token_id"] for trial in mask_trials(95, Sizes(4))] == []  # the last row of the table


def test_built_in_drafters_offer_trials() -> None:
    """Any that is made for a target does, and what it offers is of the type that all use."""
    target = TableTarget(torch.randn(4, 4, 4), PlainCache())
    for make in (random_dflash, random_eagle3):
        drafter = make(target)
        assert isinstance(drafter, OffersTrials)
        assert drafter.trials() and all(isinstance(trial, Trial) for trial in drafter.trials())
        assert dataclasses.asdict(drafter.trials()[0])["name"]
