"""The plan of a benchmark: its subjects, the points of its sweep, and each subject's config at each point."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthrus.bench.arguments import Swept, read_labelled
from orthrus.config.compose import ConfigSource, read_overrides
from orthrus.config.schema import Config, NoOptions, PartConfig, load_config
from orthrus.errors import ConfigError, InputError, Problem, unknown
from orthrus.options import parse
from orthrus.registry.catalog import PLAIN
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling


@dataclass(frozen=True)
class SubjectPlan:
    """The plan of one subject: a decoder of a config with layers over it, or a baseline on that config's target."""

    label: str
    config: Path
    layers: tuple[ConfigSource, ...] = ()
    baseline: PartConfig | None = None

    @property
    def kind(self) -> str:
        """The kind of the subject, as results call it."""
        return "decoder" if self.baseline is None else "baseline"


@dataclass(frozen=True)
class Point:
    """One combination of swept values; layers: what it lays over every config. context: None for a file's prompts.

    values: as results show it.
    """

    batch: int
    context: int | None
    values: Mapping[str, Any]
    layers: tuple[ConfigSource, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A whole benchmark. against: the subject that ratios refer to.

    warm_up, rounds: how often every subject runs at a point before it counts, and while it does. in_order: every round
    in the order of the subjects, instead of beginning with the next one each time. isolated: every subject at every
    point runs in a process of its own.
    """

    subjects: tuple[SubjectPlan, ...]
    points: tuple[Point, ...]
    against: str
    overrides: ConfigSource
    warm_up: int = 1
    rounds: int = 5
    in_order: bool = False
    phases: bool = True
    isolated: bool = False

    @property
    def total(self) -> int:
        """The number of runs."""
        return len(self.points) * len(self.subjects) * (self.warm_up + self.rounds + self.phases)

    def config(self, subject: SubjectPlan, point: Point, plugins: Plugins) -> Config:
        """Return a subject's config at a point: its file, the overrides, the point's values, then its own."""
        return load_config(subject.config, [self.overrides, *point.layers, *subject.layers], plugins)

    def check(self, plugins: Plugins) -> None:
        """Raise ConfigError with all problems of all configs at all points, before any model is loaded."""
        problems: dict[Problem, None] = {}
        for subject, point in itertools.product(self.subjects, self.points):
            try:
                config = self.config(subject, point, plugins)
                if subject.baseline is not None and config.sampling != Sampling():
                    message = f"baseline '{subject.label}' decodes greedily, without penalties: leave sampling out"
                    problems[Problem(str(subject.config), "sampling", message)] = None
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise ConfigError(list(problems))


def plan_subjects(
    configs: Sequence[Path],
    variants: Sequence[str],
    baselines: Sequence[str],
    plugins: Plugins,
    shape: str | None = None,
) -> tuple[SubjectPlan, ...]:
    """Return the subjects: baselines first, as what the others are compared with; then configs, then variants.

    A config is called by its file's name, or by the shape that it is given, or by both if there are several.
    Raises InputError for a baseline that does not exist, a variant that is written wrongly, or a label used twice.
    """
    subjects = [
        *(_baseline(text, configs[0], plugins) for text in baselines),
        *(SubjectPlan(label, path) for label, path in zip(_labels(configs, shape), configs, strict=True)),
        *(_variant(text, configs[0]) for text in variants),
    ]
    labels = [subject.label for subject in subjects]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"two subjects are called '{label}'; labels must differ")
    return tuple(subjects)


def _labels(configs: Sequence[Path], shape: str | None) -> list[str]:
    stems = [path.stem for path in configs]
    names = [str(path) if stems.count(path.stem) > 1 else path.stem for path in configs]
    if shape is None:
        return names
    return [shape] if len(names) == 1 else [f"{name} ({shape})" for name in names]


def check_sweep(subjects: Sequence[SubjectPlan], keys: Sequence[str]) -> None:
    """Raise InputError if a part's name is swept with one subject alone: ratios would compare it with itself."""
    for key in keys:
        if key.endswith(".name") and len(subjects) == 1:
            part = key.removesuffix(".name")
            raise InputError(
                f"--sweep {key} with '{subjects[0].label}' alone compares nothing: ratios are between the subjects of a"
                f' point; give every {part} as --variant "NAME: {key}=NAME", or something to compare each with, such as'
                " --baseline none"
            )


def choose_reference(against: str | None, subjects: Sequence[SubjectPlan]) -> str:
    """Return the label that ratios refer to: the one asked for, or the first; raise InputError if there is none."""
    labels = [subject.label for subject in subjects]
    if against is not None and against not in labels:
        raise InputError(f"--against: {unknown('subject', against, labels)}")
    return against or labels[0]


def plan_points(batches: Sequence[int], contexts: Sequence[int | None], swept: Sequence[Swept]) -> tuple[Point, ...]:
    """Return every combination; keys of the config change slowest, so that models are built as seldom as can be."""
    keys = [sweep.key for sweep in swept]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--sweep {key} is given twice")
    points = []
    for chosen in itertools.product(*(sweep.settings for sweep in swept)):
        values = {key: value for key, (value, _) in zip(keys, chosen, strict=True)}
        layers = tuple(layer for _, layer in chosen)
        for context, batch in itertools.product(contexts, batches):
            where = {"batch": batch} if context is None else {"batch": batch, "context": context}
            points.append(Point(batch, context, {**where, **values}, layers))
    return tuple(points)


def _variant(text: str, config: Path) -> SubjectPlan:
    label, overrides = read_labelled("--variant", text, needed=True)
    return SubjectPlan(label, config, (ConfigSource(f"variant '{label}'", read_overrides(overrides).values),))


def _baseline(text: str, config: Path, plugins: Plugins) -> SubjectPlan:
    name, overrides = read_labelled("--baseline", text, needed=False)
    if name == PLAIN and not overrides:
        return SubjectPlan(PLAIN, config, (ConfigSource(f"baseline '{PLAIN}'", {"drafter": {"name": PLAIN}}),))
    names = plugins.catalog.names("baseline")
    if name not in names:
        raise InputError(f"--baseline: {unknown('baseline', name, [PLAIN, *names])}")
    entry = plugins.get("baseline", name)
    options, wrong = parse(entry.load_options() or NoOptions, read_overrides(overrides).values)
    if wrong:
        raise InputError(f"--baseline {name}: {wrong[0][0]}: {wrong[0][1]}")
    return SubjectPlan(name, config, baseline=PartConfig(entry, options))
