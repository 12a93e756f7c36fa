"""The baseline `onnxruntime_genai`: greedy decoding by ONNX Runtime GenAI, one prompt at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from orthrus import BaselineAnswer, BuildError, InputError, Parts, Stop, Target
from orthrus_baselines.limits import check_end, room_of
from orthrus_baselines.options import OnnxRuntimeOptions
from orthrus_baselines.packages import import_package, model_path

NAME = "onnxruntime_genai"
CONFIG = "genai_config.json"


class OnnxRuntimeGenAI:
    """Answer through a generator of the package, token by token, as its users do."""

    def __init__(self, package: Any, directory: Path, target: Target, threads: int) -> None:
        self._package = package
        self._target = target
        config = package.Config(str(directory))
        sessions = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": sessions}}))
        self._model = package.Model(config)

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        """Return the answer to one prompt; InputError for more."""
        if len(prompts) > 1:
            raise InputError(f"the baseline '{NAME}' takes a batch of 1 at most, not of {len(prompts)}")
        [prompt] = prompts
        room = room_of(NAME, prompt, stop, self._target)
        if room == 0:
            return BaselineAnswer(((),))
        began, first = time.perf_counter(), None
        generator = self._generator(prompt, room, stop)
        tokens: list[int] = []
        while len(tokens) < room and not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            first = first or time.perf_counter() - began
            if tokens[-1] in stop.token_ids and len(tokens) >= stop.min_new_tokens:
                break
        check_end(NAME, tokens, room, stop)
        return BaselineAnswer((tuple(tokens),), first, len(tokens) - 1)

    def _generator(self, prompt: Sequence[int], room: int, stop: Stop) -> Any:
        parameters = self._package.GeneratorParams(self._model)
        length = len(prompt) + room
        least = len(prompt) + min(stop.min_new_tokens, room)
        parameters.set_search_options(max_length=length, min_length=least, do_sample=False)
        generator = self._package.Generator(self._model, parameters)
        generator.append_tokens(list(prompt))
        return generator


def make(options: OnnxRuntimeOptions, parts: Parts) -> OnnxRuntimeGenAI:
    """Return the baseline; raise BuildError if the package or the model is missing."""
    package = import_package(NAME, "onnxruntime_genai", "onnxruntime-genai")
    directory = model_path(NAME, options.model, parts.target, "a directory")
    if not (directory / CONFIG).is_file():
        raise BuildError(
            f"baseline '{NAME}': '{directory}' has no {CONFIG}; python -m onnxruntime_genai.models.builder writes one"
        )
    return OnnxRuntimeGenAI(package, directory, parts.target, options.threads or torch.get_num_threads())
