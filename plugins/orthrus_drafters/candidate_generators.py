"""Candidate generators of transformers, or classes like them, as drafters: one generator a row, each with a batch of 1.

T: tokens of a row.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError, Chance, Context, Draft, DraftError, Parts, Row, Step, Target
from orthrus.errors import reason, shown
from orthrus_drafters.options import GENERATORS, CandidateGeneratorOptions
from orthrus_drafters.padding import padded

BASE = "transformers.generation.candidate_generator"
ANY_LENGTH = 2**31  # for a generator that is made to see whether it can be


class CandidateGeneratorDrafter:
    """Propose what a generator adds to a row's tokens. What it drew is taken as chosen: its logits are not read.

    Tokens are handed over on the host, where a generator may read them at no cost.
    """

    name = "transformers"
    needs: frozenset[str] = frozenset()
    learns = False
    moves_rows = True

    def __init__(self, factory: GeneratorFactory, length: int) -> None:
        """Draft up to `length` tokens with the generators that a factory makes."""
        self._factory = factory
        self._length = length
        self.prefix_consistent = factory.place in GENERATORS.values()  # of another class nothing is known
        self._generators: dict[int, Any] = {}  # by row

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Make a generator for each new row."""
        for index in rows:
            row = context.rows[index]
            self._generators[index] = self._factory.make(len(row.prompt) + len(row.output) + row.room)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the generators of the rows along."""
        self._generators = {row: self._generators[source] for row, source in enumerate(sources) if source >= 0}

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's candidate, cut to its room."""
        drafts = [self._candidate(index, row) if row.room else [] for index, row in enumerate(context.rows)]
        return padded(context, drafts, max(map(len, drafts)))

    def observe(self, step: Step) -> None:
        """Do nothing: the next candidates are asked for with all of a row's tokens."""

    def _candidate(self, index: int, row: Row) -> list[int]:
        tokens = torch.tensor([[*row.prompt, *row.output]])  # [1, T]
        returned = self._generators[index].get_candidates(tokens)
        candidate = self._checked(returned, tokens)
        return candidate[0, tokens.shape[1] :].tolist()[: min(self._length, row.room)]

    def _checked(self, returned: Any, tokens: Tensor) -> Tensor:
        """Return the candidate [1, T + n], on the host; raise DraftError if it is none, or there are several."""
        what = f"drafter 'transformers': generator '{self._factory.place}'"
        candidate = returned[0] if isinstance(returned, tuple) and returned else returned
        if not isinstance(candidate, Tensor) or candidate.dim() != 2 or candidate.is_floating_point():
            raise DraftError(f"{what} returned {shown(type(returned).__name__)}, not token ids [1, T + n] and logits")
        if len(candidate) != 1:
            raise DraftError(f"{what} returned {len(candidate)} candidates; a draft is one chain of tokens")
        candidate = candidate.to(tokens.device)
        if candidate.shape[1] < tokens.shape[1] or not torch.equal(candidate[:, : tokens.shape[1]], tokens):
            raise DraftError(f"{what} returned a candidate that does not begin with the tokens it was handed")
        return candidate


class GeneratorFactory:
    """Make generators of a class; refuse, in one sentence, a class that wants what a drafter cannot hand over."""

    def __init__(self, options: CandidateGeneratorOptions, target: Target) -> None:
        """Import the class and make one; raise BuildError if that is not possible."""
        self.place = GENERATORS.get(options.generator, options.generator)
        self._class = _imported(self.place)
        self._refuse_what_reads_the_model()
        self._arguments = {**self._from_target(target, options.arguments), **options.arguments}
        self._takes_length = "max_length" in self._parameters() and "max_length" not in self._arguments
        self._refuse_arguments()
        self.make(ANY_LENGTH)

    def make(self, max_length: int) -> Any:
        """Return a new generator for a text that will have so many tokens at most; raise BuildError if it refuses."""
        length = {"max_length": max_length} if self._takes_length else {}
        try:
            return self._class(**self._arguments, **length)
        except Exception as error:  # the class may be anybody's
            raise BuildError(f"drafter.arguments: generator '{self.place}' cannot be made: {reason(error)}") from error

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._class).parameters

    def _from_target(self, target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the class must be given and the target knows."""
        known = {
            "vocab_size": target.vocabulary_size,
            "eos_token_id": torch.tensor(sorted(target.stop_token_ids), dtype=torch.int64),
        }
        return {name: value for name, value in known.items() if name in self._required() and name not in given}

    def _required(self) -> list[str]:
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [
            name
            for name, parameter in self._parameters().items()
            if parameter.default is inspect.Parameter.empty and parameter.kind in named
        ]

    def _refuse_what_reads_the_model(self) -> None:
        base = importlib.import_module(BASE)
        if getattr(self._class, "requires_model_outputs", False):
            raise BuildError(
                f"drafter.generator: '{self.place}' reads the hidden states of the model that generate runs, which"
                " drafters are not handed in transformers' form; use a drafter of Orthrus that does the same"
            )
        idle = (base.CandidateGenerator, base.PromptLookupCandidateGenerator)  # whose method does nothing
        update = getattr(self._class, "update_candidate_strategy", None)
        if update and update not in [each.update_candidate_strategy for each in idle]:
            raise BuildError(
                f"drafter.generator: '{self.place}' adapts itself in `update_candidate_strategy` to the model's scores,"
                " which drafters do not see; use a class without that method"
            )

    def _refuse_arguments(self) -> None:
        parameters = self._parameters()
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        foreign = [name for name in self._arguments if name not in parameters and not takes_any]
        if foreign:
            raise BuildError(
                f"drafter.arguments: generator '{self.place}' takes no '{foreign[0]}', but {', '.join(parameters)}"
            )
        given = {*self._arguments, *(["max_length"] if self._takes_length else [])}
        missing = [name for name in self._required() if name not in given]
        if missing:
            raise BuildError(
                f"drafter.arguments: generator '{self.place}' needs {', '.join(missing)}; what is a model, a tensor or"
                " made for each prompt cannot be written in a config"
            )


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        generator = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may fail in any way
        raise BuildError(f"drafter.generator: '{place}' cannot be imported: {reason(error)}") from error
    if not inspect.isclass(generator) or not callable(getattr(generator, "get_candidates", None)):
        raise BuildError(f"drafter.generator: '{place}' is no class with a method `get_candidates`")
    return generator


def make(options: CandidateGeneratorOptions, parts: Parts) -> CandidateGeneratorDrafter:
    """Return the drafter."""
    return CandidateGeneratorDrafter(GeneratorFactory(options, parts.target), options.length)
