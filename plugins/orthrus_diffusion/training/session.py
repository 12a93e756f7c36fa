"""One training: its config, its directory, and the decoders that its stages build."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orthrus
from orthrus import BuildError, Decoder, InputError, read_prompts
from orthrus.files import write_whole
from orthrus.optional import TrainableTarget
from orthrus_diffusion.training.process_group import Workers
from orthrus_diffusion.training.settings import (
    AnswersOptions,
    EvalOptions,
    FitOptions,
    PromptsOptions,
    TrainingOptions,
)
from orthrus_diffusion.view_files.config import read_config
from orthrus_diffusion.view_files.mask_token import check_mask_token
from orthrus_diffusion.view_files.shipped import view_directory

CLAIM = "made-with.json"
OF_A_TARGET = ("target.", "attention.", "cache.")  # overrides that a target which is there has had
OF_A_STAGE = ("seed=", "stop.", "sampling.", "drafter.", "verifier.")  # overrides that stages decide themselves


@dataclass(frozen=True)
class TrainingSession:
    """One training, as every stage knows it."""

    config: Path
    overrides: tuple[str, ...]
    workers: Workers
    notify: Callable[[str], None]
    training: TrainingOptions
    prompts: PromptsOptions
    answers: AnswersOptions
    fit: FitOptions
    eval: EvalOptions

    @classmethod
    def read(
        cls, config: Path, overrides: Sequence[str], workers: Workers, notify: Callable[[str], None]
    ) -> TrainingSession:
        """Return the training of a config file; raise ConfigError or InputError for one that is none."""
        composed = orthrus.read_sections(config, dotted=overrides)
        if "training" not in composed:
            raise InputError(f"'{config}' trains nothing: it has no section 'training', with `out` and `mask_token_id`")
        defaults = {"prompts": PromptsOptions, "answers": AnswersOptions, "fit": FitOptions, "eval": EvalOptions}
        sections = {name: composed.get(name) or make() for name, make in defaults.items()}
        return cls(config, tuple(overrides), workers, notify, composed["training"], **sections)

    @property
    def out(self) -> Path:
        """The directory that everything is kept in."""
        return Path(self.training.out).expanduser()

    def decoder(self, target: TrainableTarget | None = None, **changes: Any) -> Decoder:
        """Return a decoder of the config with some sections and parts changed; without a target it loads one."""
        settings = {"drafter": "none", "verifier": "consensus", **changes}
        mine = [text for text in self.overrides if not text.startswith(OF_A_STAGE)]
        if target is None:
            return orthrus.load(self.config, dotted=mine, notify=self.notify, **settings)
        rest = [text for text in mine if not text.startswith(OF_A_TARGET)]
        return orthrus.load(self.config, dotted=rest, notify=self.notify, target=target, **settings)

    def target(self, with_text: bool = True) -> TrainableTarget:
        """Return the frozen model; raise BuildError or InputError if it, or its mask token, is none to train with.

        with_text: whether the stage reads or writes text, which takes a tokenizer.
        """
        target: Any = self.decoder().target
        if "training" not in target.capabilities:
            raise BuildError(
                f"target '{type(target).__name__}' has no views that could be trained; over a GGUF file's own blocks it"
                " has none, over its widened weights it has (target.dtype=float32)"
            )
        if with_text and target.tokenizer is None:
            raise InputError(
                f"the model '{target.name}' has no tokenizer, which training needs; put its tokenizer.json beside its"
                " weights"
            )
        trainable: TrainableTarget = target
        self._check_mask_token(trainable)
        return trainable

    def check_files(self) -> None:
        """Raise InputError unless the prompt files and the view that are named can be read."""
        for name in (*self.prompts.files, *self.prompts.avoid, *self.eval.files):
            read_prompts(Path(name).expanduser())
        if self.training.start is not None:
            read_config(view_directory(self.training.start))

    def _check_mask_token(self, target: TrainableTarget) -> None:
        options = self.training
        try:
            check_mask_token(target, options.mask_token_id, allow_ordinary=options.allow_ordinary_mask)
        except InputError as error:
            raise InputError(
                f"training.mask_token_id: {error}".replace(" set allow_", " set training.allow_")
            ) from error

    def claim(self, directory: Path, target: TrainableTarget, options: Any, **more: Any) -> None:
        """Note what a stage's files are made with; raise InputError if there are some that were made otherwise."""
        facts = {"model": target.fingerprint(), **_deciding(options), **json.loads(json.dumps(more))}
        earlier = read_claim(directory)
        if not earlier:
            write_whole(directory / CLAIM, json.dumps(facts, indent=1) + "\n")
            return
        earlier = {**_deciding(type(options)()), **earlier}  # options that came later had their defaults then
        if earlier != facts:
            raise InputError(
                f"what is in '{directory}' was made with another model or other options ({_different(earlier, facts)});"
                " delete it, or set another training.out"
            )


def read_claim(directory: Path) -> dict[str, Any]:
    """Return what a stage's files are made with, nothing if that is not noted; raise InputError if it is damaged."""
    note = directory / CLAIM
    try:
        claim: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{note}' cannot be read; delete '{directory}' to begin the stage anew") from error
    return claim


def _deciding(options: Any) -> dict[str, Any]:
    """Return the options that decide what a stage makes, as JSON has them.

    How many rows at a time is none of them: when it is sampled it changes the sample, but not what it is drawn from.
    """
    values: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return {name: value for name, value in values.items() if name != "batch"}


def _different(earlier: Any, claim: Any) -> str:
    keys = [key for key in {**earlier, **claim} if earlier.get(key) != claim.get(key)]
    return ", ".join(f"{key} was {earlier.get(key)!r} and is {claim.get(key)!r}" for key in keys)
