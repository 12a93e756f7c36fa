"""The baseline `vllm`: greedy decoding by vLLM, in this process, on the GPU that the target is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orthrus import BaselineAnswer, InputError, Parts, Stop, Target
from orthrus_baselines.limits import room_of
from orthrus_baselines.options import VllmNgramOptions, VllmOptions
from orthrus_baselines.packages import import_package, model_path

NAME = "vllm"


class Vllm:
    """Answer through `vllm.LLM.generate` with token ids, without its prefix cache, so that no run helps the next."""

    def __init__(self, package: Any, model: str, target: Target, options: VllmOptions) -> None:
        self._package = package
        self._target = target
        self._most = options.max_length
        self._engine = package.LLM(
            model=model,
            dtype=options.dtype,
            max_model_len=options.max_length,
            gpu_memory_utilization=options.memory,
            enable_prefix_caching=False,
            skip_tokenizer_init=True,
            **_speculation(options),
        )

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        """Return the answers of one batch, decoded side by side."""
        rooms = [room_of(NAME, prompt, stop, self._target) for prompt in prompts]
        self._check_length(max(len(prompt) + room for prompt, room in zip(prompts, rooms, strict=True)))
        asked = [index for index, room in enumerate(rooms) if room]
        outputs = self._engine.generate(
            [{"prompt_token_ids": list(prompts[index])} for index in asked],
            [self._settings(stop, rooms[index]) for index in asked],
            use_tqdm=False,
        )
        answers: list[tuple[int, ...]] = [() for _ in prompts]
        for index, output in zip(asked, outputs, strict=True):
            answers[index] = stop.cut(output.outputs[0].token_ids)
        return BaselineAnswer(tuple(answers))

    def _check_length(self, length: int) -> None:
        """Raise InputError for a prompt and answer of more tokens than the engine was made for."""
        if length > self._most:
            raise InputError(
                f"the baseline '{NAME}' has room for {self._most} tokens, and a prompt with its answer may need"
                f" {length}: give it max_length={length}"
            )

    def _settings(self, stop: Stop, room: int) -> Any:
        return self._package.SamplingParams(
            temperature=0.0,
            max_tokens=room,
            min_tokens=min(stop.min_new_tokens, room),
            stop_token_ids=sorted(stop.token_ids),
            ignore_eos=True,  # the config's stop tokens have the target's own among them
            detokenize=False,
        )


def _speculation(options: VllmOptions) -> dict[str, Any]:
    if not isinstance(options, VllmNgramOptions):
        return {}
    counts = {"num_speculative_tokens": options.drafts, "prompt_lookup_max": options.ngram}
    return {"speculative_config": {"method": "ngram", **counts}}


def make(options: VllmOptions, parts: Parts) -> Vllm:
    """Return the baseline; raise BuildError if the package or the model is missing."""
    package = import_package(NAME, "vllm", "vllm")
    model = options.model or str(model_path(NAME, None, parts.target, "a directory"))
    return Vllm(package, model, parts.target, options)
