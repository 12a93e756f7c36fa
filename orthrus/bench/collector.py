"""The results of one point so far: measurements, profiles, and a sentence for each subject that could not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from orthrus.bench.aggregate import failed, measured
from orthrus.bench.measurement import Measurement
from orthrus.bench.memory_ledger import release
from orthrus.bench.plan import Plan, Point, SubjectPlan
from orthrus.bench.profiler import Profile
from orthrus.bench.results import Run
from orthrus.errors import OrthrusError, reason
from orthrus.ranks.launch import launched


class PointCollector:
    """Collect what the subjects of one point gave; one that failed gives a sentence and nothing else."""

    def __init__(self, plan: Plan, point: Point) -> None:
        self._plan = plan
        self._point = point
        self._samples: dict[str, list[Measurement]] = {subject.label: [] for subject in plan.subjects}
        self._profiles: dict[str, Profile | None] = {}
        self._bandwidths: dict[str, float | None] = {}
        self._errors: dict[str, str] = {}

    def add(self, label: str, sample: Measurement) -> None:
        """Add the sample of a subject's next round."""
        self._samples[label].append(sample)

    def add_profile(self, label: str, profile: Profile | None, copy_bandwidth: float | None) -> None:
        """Add where a subject's time goes, and what its device could do."""
        self._profiles[label], self._bandwidths[label] = profile, copy_bandwidth

    def join(self, collector: PointCollector) -> None:
        """Add all that another collector of the same point holds."""
        self._samples |= {label: samples for label, samples in collector._samples.items() if samples}
        self._profiles |= collector._profiles
        self._bandwidths |= collector._bandwidths
        self._errors |= collector._errors

    def fine(self, label: str) -> bool:
        """Tell whether a subject has not failed."""
        return label not in self._errors

    @contextmanager
    def noting(self, label: str) -> Iterator[None]:
        """Note what a subject raises, whatever it is: it must not take the others' figures with it.

        Of several processes that measure together one may raise alone, so that all end.
        """
        if launched() is not None:
            yield
            return
        try:
            yield
        except OrthrusError as error:
            self._errors[label] = " ".join(str(error).split())
        except (torch.OutOfMemoryError, MemoryError):
            self._errors[label] = "it ran out of memory"
        except Exception as error:  # a plugin may raise anything
            self._errors[label] = reason(error)
        if not self.fine(label):
            release()

    def runs(self) -> list[Run]:
        """Return a run for each subject, from the rounds that all who did not fail finished; none without a round."""
        rounds = min((len(samples) for label, samples in self._samples.items() if self.fine(label)), default=0)
        return [self._run(subject, rounds) for subject in self._plan.subjects if rounds or not self.fine(subject.label)]

    def _run(self, subject: SubjectPlan, rounds: int) -> Run:
        label, against = subject.label, self._plan.against
        if not self.fine(label):
            return failed(subject, self._point, self._errors[label])
        reference = self._samples[against][:rounds] if self.fine(against) else []
        samples = self._samples[label][:rounds]
        profile, bandwidth = self._profiles.get(label), self._bandwidths.get(label)
        return measured(subject, self._point, samples, reference, profile, bandwidth)
