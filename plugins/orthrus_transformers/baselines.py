"""The baseline of transformers' users: its own `generate`, on the target's model with the model's own attention."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from orthrus import BaselineAnswer, BuildError, InputError, Parts, Stop
from orthrus_transformers.options import GeneratePromptLookupOptions
from orthrus_transformers.target import TransformersTarget

PADDING = 0  # masked, so any token does


class Generate:
    """Answer with `model.generate`, greedily, by nothing but what is set here.

    assisted: generate drafts and verifies, one prompt at a time.
    """

    def __init__(self, target: TransformersTarget, *, assisted: bool = False, **settings: Any) -> None:
        self._target = target
        self._assisted = assisted
        self._settings = settings

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        """Return the answers of one batch, padded on the left; InputError for what generate cannot do."""
        self._check(prompts, stop)
        room = self._room(prompts, stop)
        if room == 0:
            return BaselineAnswer(tuple(() for _ in prompts))
        with self._target.own_model() as model, _no_defaults(model):
            token_ids, mask = pad_left(prompts, self._target.device)
            watch = Watch(token_ids)
            with watch.passes_of(model) if self._assisted else nullcontext():
                output = model.generate(
                    token_ids,
                    attention_mask=mask,
                    generation_config=self._config(stop, room),
                    stopping_criteria=[] if self._assisted else [watch],
                )
        new = output[:, token_ids.shape[1] :].tolist()
        if not all(new):
            raise InputError(
                f"generate of transformers {version('transformers')} answers nothing after a prompt that ends in a stop"
                " token; leave that prompt out"
            )
        return BaselineAnswer(tuple(stop.cut(row[:room]) for row in new), watch.ttft_seconds, watch.passes - 1)

    def _config(self, stop: Stop, room: int) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=room,
            min_new_tokens=min(stop.min_new_tokens, room) or None,
            eos_token_id=sorted(stop.token_ids) or None,
            pad_token_id=PADDING,
            **self._settings,
        )

    def _check(self, prompts: Sequence[Sequence[int]], stop: Stop) -> None:
        if stop.strings:
            raise InputError("stop.strings: a baseline of transformers stops at tokens only")
        if self._assisted and len(prompts) > 1:
            raise InputError(f"this baseline of transformers takes a batch of 1 at most, not of {len(prompts)}")

    def _room(self, prompts: Sequence[Sequence[int]], stop: Stop) -> int:
        """Return how many new tokens every row has room for; InputError if the model's context cuts them unevenly."""
        limit, most = self._target.max_length, stop.max_new_tokens
        rooms = {most if limit is None else min(most, limit - len(prompt)) for prompt in prompts}
        if len(rooms) > 1:
            raise InputError(
                f"the model's context of {limit} leaves some prompts of a batch room for {min(rooms)} tokens only;"
                " generate has one limit for all"
            )
        return rooms.pop()


class Watch:
    """Note when the first pass ended, and count the passes; as a criterion it never stops anything."""

    def __init__(self, token_ids: Tensor) -> None:
        self.passes = 0
        self.ttft_seconds: float | None = None
        self._device = token_ids.device
        self._never = torch.zeros(len(token_ids), dtype=torch.bool, device=token_ids.device)
        self._began = time.perf_counter()

    def __call__(self, token_ids: Tensor, scores: Any, **unused: Any) -> Tensor:
        """Return [B], all false; generate asks after each pass."""
        self._note()
        return self._never

    @contextmanager
    def passes_of(self, model: Any) -> Iterator[None]:
        """Count a model's own passes: where generate drafts, some versions ask criteria of drafts, too."""
        handle = model.register_forward_hook(lambda *unused: self._note())
        try:
            yield
        finally:
            handle.remove()

    def _note(self) -> None:
        if self.passes == 0:
            if self._device.type != "cpu":
                torch.accelerator.synchronize(self._device)
            self.ttft_seconds = time.perf_counter() - self._began
        self.passes += 1


@contextmanager
def _no_defaults(model: Any) -> Iterator[None]:
    """Take away what a model brings along for generate (penalties, temperatures, end tokens) for a while."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return tokens [B, n] that end in the last column, and a mask [B, n] that is 0 before they begin."""
    width = max(map(len, prompts))
    token_ids = [[PADDING] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(token_ids, device=device), torch.tensor(mask, device=device)


def generate(options: object, parts: Parts) -> Generate:
    """Return `generate` as it is."""
    return Generate(_target(parts, "generate"))


def generate_static(options: object, parts: Parts) -> Generate:
    """Return `generate` with a static cache, over which transformers compiles the model by itself on a CUDA device."""
    return Generate(_target(parts, "generate-static"), cache_implementation="static")


def generate_prompt_lookup(options: GeneratePromptLookupOptions, parts: Parts) -> Generate:
    """Return `generate` with drafts from the prompt; transformers does that for one prompt at a time."""
    return Generate(
        _target(parts, "generate-prompt-lookup"),
        assisted=True,
        prompt_lookup_num_tokens=options.num_tokens,
        max_matching_ngram_size=options.max_ngram,
    )


def _target(parts: Parts, name: str) -> TransformersTarget:
    if not isinstance(parts.target, TransformersTarget):
        type_name = type(parts.target).__name__
        raise BuildError(f"baseline '{name}' runs on the target 'transformers' only, not on a {type_name}")
    return parts.target
