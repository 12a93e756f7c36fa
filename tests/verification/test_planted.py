"""Mistakes outside of verifier and cache: stops, penalties, noise; each fails by the rule that the docs name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import table_target
from support.certified import COUPLED, Given, RoundedTable, certify, config_of, random_table
from support.thorough import thorough_but

import orthrus.decoder
from orthrus import Decoder, Stop
from orthrus.batch import scheduler
from orthrus.batch.row_settings import RowSettings
from orthrus.sampling import logits_processor
from orthrus.verification.expected import wrong_end
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.coupled import Coupled

Plant = Callable[[pytest.MonkeyPatch], None]


def a_stop_inside_a_draft_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    own = RowSettings.of

    def forgetful(*args: Any) -> RowSettings:
        settings = own(*args)
        return dataclasses.replace(settings, stop_ids=settings.stop_ids[:, :0])

    patch.setattr(RowSettings, "of", forgetful)
    patch.setattr(scheduler, "why_finished", lambda row: None if row.room else "length")


def a_penalty_is_not_applied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(logits_processor, "penalized", lambda context, draft, logits: logits)


def noise_is_keyed_by_another_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(orthrus.decoder, "request_key", lambda id: 0)


@pytest.mark.parametrize("dtype", thorough_but([torch.bfloat16], [torch.bfloat16, torch.float32]), ids=str)
@pytest.mark.parametrize(
    ("plant", "settings", "check"),
    [
        (a_stop_inside_a_draft_is_passed_over, {"stop": {"max_new_tokens": 24, "token_ids": [2]}}, "end"),
        pytest.param(
            *(a_penalty_is_not_applied, {"sampling": {"repetition_penalty": 1.8}}, "teacher_forced"),
            marks=pytest.mark.thorough,
        ),
        (noise_is_keyed_by_another_request, {"sampling": COUPLED}, "teacher_forced"),
    ],
)
def test_a_planted_mistake_fails(
    plant: Plant, settings: dict[str, Any], check: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, config = Given(lambda cache: RoundedTable(random_table(), cache, dtype)), config_of(**settings)
    [honest] = certify(config, plugin)
    assert honest.passed
    plant(monkeypatch)
    [certificate] = certify(config, plugin)
    assert not certificate.passed
    assert check in {divergence.check for divergence in certificate.divergences} <= {check, "logit"}


def test_an_answer_that_ends_too_early_or_for_another_reason_is_told() -> None:
    decoder = Decoder.of(table_target(), NoDrafter(), Coupled(), Stop(6, strings=("zz",)))
    [result] = decoder.generate([[0, 1]])
    assert wrong_end(decoder, result) == []
    [early] = wrong_end(decoder, dataclasses.replace(result, token_ids=result.token_ids[:4]))
    assert (early.position, early.token, early.check) == (4, -1, "end")
    [other] = wrong_end(decoder, dataclasses.replace(result, finish_reason="stop_token"))
    assert other.check == "end"
