"""The baseline `llama_cpp`: greedy decoding by llama.cpp, in this process, through the package xllamacpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from orthrus import BaselineAnswer, InputError, Parts, Stop, Target
from orthrus_baselines.limits import check_end, room_of
from orthrus_baselines.options import LlamaCppNgramOptions, LlamaCppOptions
from orthrus_baselines.packages import import_package, model_path

NAME = "llama_cpp"
FEWEST_SLOTS = 512  # of a row; doubled until prompt and answer fit, so that few servers are made


class LlamaCpp:
    """Answer through a server object of llama.cpp, which is made for as many rows and slots as were asked for.

    It ends answers at the end tokens that the file names. Its own prompt cache is off.
    """

    def __init__(self, package: Any, model: Path, target: Target, options: LlamaCppOptions) -> None:
        self._package = package
        self._model = model
        self._target = target
        self._options = options
        self._server: Any = None
        self._size = (0, 0)  # rows, and slots of each

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        """Return the answers of one batch, decoded side by side; InputError for what llama.cpp cannot do."""
        rooms = [room_of(NAME, prompt, stop, self._target) for prompt in prompts]
        if max(rooms) == 0:
            return BaselineAnswer(tuple(() for _ in prompts))
        most = _common(rooms)
        server = self._server_for(len(prompts), max(map(len, prompts)) + most)
        with ThreadPoolExecutor(len(prompts)) as threads:  # requests that wait together are decoded side by side
            responses = list(threads.map(server.handle_completions, _requests(prompts, most, stop)))
        for response in responses:
            if "__verbose" not in response:
                raise InputError(f"the baseline '{NAME}': llama.cpp refuses a prompt: {response}")
        answers = [list(map(int, response["__verbose"]["tokens"])) for response in responses]
        for tokens in answers:
            check_end(NAME, tokens, most, stop)
        return BaselineAnswer(tuple(map(tuple, answers)), *self._times(responses))

    def _times(self, responses: Sequence[Mapping[str, Any]]) -> tuple[float | None, int | None]:
        """Return the seconds to the first token and the passes after it, where one row tells."""
        if len(responses) > 1:
            return None, None
        [timings] = (response["timings"] for response in responses)
        drafts = isinstance(self._options, LlamaCppNgramOptions)
        return float(timings["prompt_ms"]) / 1000, None if drafts else int(timings["predicted_n"]) - 1

    def _server_for(self, rows: int, slots: int) -> Any:
        """Return a server with room for so many rows of so many tokens."""
        wide = FEWEST_SLOTS
        while wide < slots:
            wide *= 2
        wanted = max(rows, self._size[0]), max(wide, self._size[1])
        if wanted != self._size:
            self._server = None  # frees the one before
            self._server = self._package.Server(self._settings(*wanted))
            self._size = wanted
        return self._server

    def _settings(self, rows: int, slots: int) -> Any:
        package, options = self._package, self._options
        settings = package.CommonParams()
        settings.model.path = str(self._model)
        settings.n_parallel, settings.n_ctx = rows, rows * slots
        settings.verbosity = 0
        for threads in (settings.cpuparams, settings.cpuparams_batch):
            threads.n_threads = options.threads or torch.get_num_threads()
        if isinstance(options, LlamaCppNgramOptions):
            settings.speculative.types = [package.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
            settings.speculative.ngram_simple.size_n = options.ngram
            settings.speculative.ngram_simple.size_m = options.drafts
        return settings


def _common(rooms: Sequence[int]) -> int:
    """Return the limit of all rows; InputError if they differ: a request has one."""
    if len(set(rooms)) > 1:
        raise InputError(
            f"the model's context leaves some prompts of a batch room for {min(rooms)} tokens only; the baseline"
            f" '{NAME}' has one limit for all"
        )
    return rooms[0]


def _requests(prompts: Sequence[Sequence[int]], most: int, stop: Stop) -> Iterator[dict[str, Any]]:
    """Yield a request for each prompt's greedy answer; InputError for a minimum that only holds for a while.

    Token ids are told to who asks for all there is: those beside log-probabilities lack tokens that end within a
    character.
    """
    endless = stop.min_new_tokens >= most
    if stop.min_new_tokens and not endless:
        raise InputError(
            f"stop.min_new_tokens: the baseline '{NAME}' has it only as large as stop.max_new_tokens, or 0"
        )
    for prompt in prompts:
        yield {
            "prompt": list(prompt),
            "n_predict": most,
            "temperature": 0,
            "ignore_eos": endless,
            "cache_prompt": False,
            "verbose": True,
            "return_tokens": True,
        }


def make(options: LlamaCppOptions, parts: Parts) -> LlamaCpp:
    """Return the baseline; raise BuildError if the package or the model is missing."""
    package = import_package(NAME, "xllamacpp", "xllamacpp")
    return LlamaCpp(package, model_path(NAME, options.model, parts.target, ".gguf"), parts.target, options)
