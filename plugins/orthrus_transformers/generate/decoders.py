"""The decoder around a loaded model, and the model's own attention before and after a decoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orthrus import Decoder, InputError, load
from orthrus_transformers.loading.loaded_model import SCHEME, LoadedModelPlugin
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.weight_versions import weight_versions

NAME = "transformers"
SAID_BY_THE_MODEL = {"dtype": "auto", "device": "auto", "tokenizer": None}
SAID_BY_GENERATE = {
    "stop": {"token_ids": [], "strings": []},
    "sampling": {"temperature": 0, "bad_words": []},
    "seed": 0,
}


class DecoderOfModel:
    """The decoder of a config around the model that was last asked for; weights that changed since get a new one."""

    def __init__(self, config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
        _check_overrides(overrides)
        self._config, self._overrides = config, dict(overrides)
        self._decoder: Decoder | None = None
        self._weights: tuple[Any, ...] = ()

    def of(self, model: Any) -> Decoder:
        """Return the decoder, building it if need be; the model's attention goes through it until it is given back."""
        if self._decoder is None or self._weights != _weights(model) or not _take_back(self._decoder):
            self._decoder = None  # what it holds is freed first
            self._decoder = self._build(model)
            self._weights = _weights(model)  # an engine may have laid weights together
        return self._decoder

    def _build(self, model: Any) -> Decoder:
        given = {**SAID_BY_THE_MODEL, "source": f"{SCHEME}:{type(model).__name__}"}
        overrides = {
            **SAID_BY_GENERATE,
            **self._overrides,
            "target": {**self._overrides.get("target", {}), "name": NAME},  # with its options, or a new name drops them
            **{f"target.{key}": value for key, value in given.items()},
        }
        decoder = load(self._config, plugins=[LoadedModelPlugin(model)], **overrides)
        decoder.target.stop_token_ids = frozenset()  # generate says at which tokens answers end
        return decoder


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    for key in overrides:
        if key.partition(".")[0] in SAID_BY_GENERATE:
            raise InputError(f"{key}: it cannot be set for custom_generate; the arguments of generate say it")
    if not isinstance(overrides.get("target", {}), Mapping):
        raise InputError("target: custom_generate decodes with the model of the call; give options as a mapping")


def _take_back(decoder: Decoder) -> bool:
    """Route the model's attention through the decoder's target; return False if another has it."""
    assert isinstance(decoder.target, TransformersTarget), "it is built so"
    return decoder.target.take_back()


def _weights(model: Any) -> tuple[Any, ...]:
    """Return what changes when a weight is replaced, moved or written to; engines may hold copies of weights."""
    return id(model), *weight_versions(model)


@contextmanager
def own_attention_afterwards(model: Any) -> Iterator[None]:
    """Give the model back the attention that it has now."""
    if model.training:
        raise InputError("the model is in training mode, in which dropout draws anew at each pass; call model.eval()")
    before = model.config._attn_implementation
    try:
        yield
    finally:
        model.set_attn_implementation(before)
