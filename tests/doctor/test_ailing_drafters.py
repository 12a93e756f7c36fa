"""Drafters that were trained, each with one mistake: the doctor names its cure first, and what it says comes true."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ailing_drafters import AILMENTS, Ailment, Ward
from support.thorough import nightly_but

import orthrus
from orthrus.config.compose import read_overrides
from orthrus.doctor.diagnosis import Diagnosis, diagnose
from orthrus.doctor.runner import Outcome, TrialRunner
from orthrus.doctor.trials import PlannedTrial, plan_trials
from orthrus.metrics import summarize
from orthrus.prompts import read_prompts
from orthrus.registry.plugins import Plugins

# Each layout in one or more: options of the checkpoint, the text before it, and its taps. The rest is nightly.
BY_DAY = [
    "z-lab dflash: mask token",
    "speculators dflash: taps too low",
    "SafeAILab eagle3: norm of the feature",
    "speculators eagle3: rotary base",
]
CHOSEN = [ailment for ailment in AILMENTS if str(ailment) in BY_DAY]


def examined(ward: Ward) -> tuple[Diagnosis, list[tuple[PlannedTrial, Outcome]]]:
    """Return the diagnosis of a ward, and what each trial gave."""
    records = read_prompts(ward.prompts)
    runner = TrialRunner(ward.file, read_overrides([]), Plugins.load(), records)
    decoder = runner.decoder()
    trials = plan_trials(runner.config, decoder, [record.prompt for record in records])
    base = runner.decode(decoder)
    attempts = [(trial, runner.attempt(trial)) for trial in trials]
    return diagnose("", base, attempts), attempts


@pytest.mark.parametrize("ailment", nightly_but([], AILMENTS, thorough=CHOSEN), ids=str)
def test_the_cure_is_named_first(ailment: Ailment, tmp_path: Path) -> None:
    """It also gives what it promises to who writes it into the config, whose text is the target's own."""
    ward = ailment.ward(tmp_path)
    diagnosis, attempts = examined(ward)
    best = diagnosis.best
    assert best is not None
    assert best.trial.write == ailment.wanted(ward)
    assert best is diagnosis.trials[0]
    assert all(outcome.identical in (None, diagnosis.prompts) for outcome in diagnosis.trials)
    texts = [record.prompt for record in read_prompts(ward.prompts)]
    cured = orthrus.load(ward.file, **best.trial.write).generate(texts)
    assert summarize([result.measures for result in cured]) == best.summary
    plain = orthrus.load(ward.file, **{**best.trial.write, "drafter": {"name": "none"}}).generate(texts)
    assert [result.token_ids for result in cured] == [result.token_ids for result in plain]
    assert len(attempts) == len(diagnosis.trials)


def test_each_layout_is_seen_by_day() -> None:
    assert sorted(map(str, CHOSEN)) == sorted(BY_DAY)
    assert {(ailment.kind, ailment.layout) for ailment in CHOSEN} == {(each.kind, each.layout) for each in AILMENTS}
