"""The predictor: learns what is accepted, measures what cycles cost, simulates, and measures what then comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orthrus.bench.measurement import Clock, Measurement, run_decoder
from orthrus.bench.memory_ledger import frozen
from orthrus.bench.results import Spread
from orthrus.build import build
from orthrus.config.schema import Config
from orthrus.decoder import Decoder
from orthrus.interfaces import Target
from orthrus.machine import synchronize
from orthrus.metrics import summarize
from orthrus.prediction.acceptance import EVERY_PLACE, THIS_BLOCK, Acceptance, tree_sizes_of, widths_of
from orthrus.prediction.candidates import Candidate
from orthrus.prediction.costs import CostRounds
from orthrus.prediction.cycle_costs import CycleCosts
from orthrus.prediction.resampling import ratio_range
from orthrus.prediction.results import Expected, Measured, Prediction, ScoredCycle
from orthrus.prediction.simulation import Simulation
from orthrus.prediction.subjects import Subject, naming, rotated
from orthrus.prediction.timing import Prompts
from orthrus.prediction.trace import Trace
from orthrus.registry.plugins import Plugins

Advance = Callable[[object], None]


class Predictor:
    """Predict candidates, the first of which is plain decoding, at some batches, on the halves of encoded prompts."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        target: Target,
        plugins: Plugins,
        learned: Prompts,
        measured: Prompts,
        batches: Sequence[int],
        *,
        notify: Callable[[str], None] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        def make(config: Config) -> Decoder:
            return build(config, plugins, {"target": target}, notify)

        self._target, self._clock, self._batches = target, clock, batches
        self._learned, self._measured = learned, measured
        self._subjects = [Subject(candidate, make) for candidate in candidates]
        self._acceptance = Acceptance(self._subjects, learned, batches)
        self.scored: tuple[ScoredCycle, ...] = ()  # once there are predictions: what cycles cost

    def predict(self, advance: Advance) -> list[Prediction]:
        """Return what is expected of each candidate at each batch; advance: called after each decoding and round."""
        asked = [(subject, batch) for batch in self._batches for subject in self._subjects]
        traces = []
        for subject, batch in asked:
            traces += self._acceptance.of(subject, batch)
            advance(subject)
        widths, trees = widths_of(traces, self._subjects), tree_sizes_of(traces)
        costs = CostRounds(self._subjects, self._learned, self._batches, widths, self._clock, trees)
        with frozen():
            costs.run(advance)
        self.scored = costs.scored()
        return [prediction for batch in self._batches for prediction in self._expected(batch, costs)]

    def _expected(self, batch: int, costs: CostRounds) -> list[Prediction]:
        plain = self._subjects[0]
        plain_traces, plain_speed = self._acceptance.of(plain, batch), _speed(plain, batch, costs.of(plain))
        reference = plain_speed(plain_traces)
        predictions: list[Prediction] = []
        for subject in self._subjects:
            known, traces = costs.of(subject), self._acceptance.of(subject, batch)
            outcome = Simulation(traces, batch, known, subject.most, subject.moves).run()
            expected = Expected(
                tokens_per_second=outcome.tokens_per_second,
                ratio=outcome.tokens_per_second / reference if reference else 0.0,
                ratio_range=ratio_range(traces, plain_traces, _speed(subject, batch, known), plain_speed),
                tokens_per_cycle=outcome.tokens_per_cycle,
                accepted_length=outcome.accepted_length,
                cycle_seconds=outcome.mean_cycle_seconds,
                drafting_seconds=known.drafting[batch],
                prefill_seconds=known.prefilling(1),
            )
            how = EVERY_PLACE if subject.probed else THIS_BLOCK
            candidate = subject.candidate
            predictions.append(Prediction(candidate.drafter, candidate.block, batch, how, expected))
        return predictions

    def measure(
        self, predictions: Sequence[Prediction], warm_up: int, rounds: int, advance: Advance
    ) -> list[Prediction]:
        """Return the predictions with what the other half of the prompts takes beside them, in rounds over all."""
        measured: list[Measured] = []
        with frozen():
            for batch in self._batches:
                samples: list[list[Measurement]] = [[] for _ in self._subjects]
                for number in range(warm_up + rounds):
                    for subject in rotated(self._subjects, number):
                        sample = self._run(subject, batch)
                        advance(subject)
                        if number >= warm_up:
                            samples[self._subjects.index(subject)].append(sample)
                measured += [summary(each, samples[0]) for each in samples]
        return [replace(each, measured=after) for each, after in zip(predictions, measured, strict=True)]

    def _run(self, subject: Subject, batch: int) -> Measurement:
        decoder = subject.decoder(self._learned, batch)
        synchronize(self._target.device)
        with naming(subject.candidate):
            return run_decoder(decoder, self._measured, batch, self._clock)


def _speed(subject: Subject, batch: int, costs: CycleCosts) -> Callable[[Sequence[Trace]], float]:
    """Return what simulates traces of a subject, and gives tokens a second."""
    return lambda traces: Simulation(traces, batch, costs, subject.most, subject.moves).run().tokens_per_second


def summary(samples: Sequence[Measurement], plain: Sequence[Measurement]) -> Measured:
    """Return what the rounds of one subject say, beside those of plain decoding."""
    ratios = summarize([measures for sample in samples for measures in sample.measures])
    cycles = tuple(sample.cycle_seconds for sample in samples if sample.cycle_seconds is not None)
    pairs = list(zip(samples, plain, strict=True))
    answers = [pair for sample, other in pairs for pair in zip(sample.token_ids, other.token_ids, strict=True)]
    return Measured(
        tokens_per_second=Spread(tuple(sample.tokens_per_second for sample in samples)),
        ratio=Spread(tuple(sample.tokens_per_second / other.tokens_per_second for sample, other in pairs)),
        cycle_seconds=Spread(cycles) if cycles else None,
        tokens_per_cycle=ratios.tokens_per_cycle.pooled,
        accepted_length=ratios.accepted_length.pooled,
        new_tokens=sum(map(len, samples[0].token_ids)),
        identical=sum(mine == base for mine, base in answers) / len(answers),
    )
