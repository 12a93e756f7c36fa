"""The callable behind `model.generate(..., custom_generate=...)`, which decodes the batch with Orthrus."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import GenerateDecoderOnlyOutput

from orthrus_transformers.generate.arguments import GenerateArguments, check_arguments
from orthrus_transformers.generate.columns import Columns
from orthrus_transformers.generate.decoders import DecoderOfModel, own_attention_afterwards
from orthrus_transformers.generate.decoding import decode
from orthrus_transformers.generate.requests import pad_token, read_requests


class CustomGenerate:
    """Decodes for `generate` with the drafter, verifier, cache, attention and engine of a config.

    The decoder is built around the very model at the first call, and kept until another model comes or weights change.
    """

    def __init__(self, config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
        self._decoders = DecoderOfModel(config, overrides)
        self._lock = threading.Lock()  # the model's attention is exchanged meanwhile

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Any:
        """Return the sequences [B, n] of prompts and answers, or what holds them with `return_dict_in_generate`.

        transformers calls this with what `generate` has prepared. Raises InputError for what cannot be honoured, before
        anything is decoded.
        """
        frame = inspect.currentframe()
        arguments = GenerateArguments.of(frame.f_back if frame else None)
        check_arguments(generation_config, arguments, model_kwargs)
        mask = model_kwargs.get("attention_mask")
        vocabulary_size = model.config.get_text_config().vocab_size
        requests = read_requests(
            input_ids, mask, logits_processor, stopping_criteria, generation_config.do_sample, vocabulary_size
        )
        columns = Columns(input_ids, stopping_criteria, pad_token(generation_config), arguments.streamer)
        with self._lock, own_attention_afterwards(model):
            decode(self._decoders.of(model), requests, columns)
        if arguments.streamer is not None:
            arguments.streamer.end()
        sequences = columns.token_ids.to(input_ids.device)
        return GenerateDecoderOnlyOutput(sequences) if generation_config.return_dict_in_generate else sequences
