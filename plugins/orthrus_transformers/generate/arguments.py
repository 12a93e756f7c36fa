"""Arguments of `generate` that Orthrus cannot honour: each is refused by its name.

transformers hands a callable neither the streamer nor the assistant model, and does not say which cache the user gave.
They are local variables of `generate`, which calls the callable itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from orthrus import InputError

BEAMS = "Orthrus decodes one continuation a row"
DRAFTS = "the config's drafter is what drafts"
CACHES = "the config's cache keeps the keys and values"
ENGINES = "the config's target.engine chooses how passes run"
OUTPUTS = "Orthrus returns the sequences alone"
PROCESSES = "Orthrus decodes in one process"
# Settings of a GenerationConfig: the values that ask for nothing, besides None, and why others are refused.
REFUSED_SETTINGS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "num_beams": ((1,), BEAMS),
    "num_beam_groups": ((1,), BEAMS),
    "constraints": ((), BEAMS),
    "force_words_ids": ((), BEAMS),
    "penalty_alpha": ((0,), BEAMS),
    "dola_layers": ((), BEAMS),
    "low_memory": ((False,), BEAMS),
    "use_mtp": ((False,), DRAFTS),
    "prompt_lookup_num_tokens": ((), DRAFTS),
    "assistant_early_exit": ((), DRAFTS),
    "is_assistant": ((False,), DRAFTS),
    "use_cache": ((True,), CACHES),
    "cache_implementation": (("dynamic", "hybrid"), CACHES),  # hybrid: the files of some models say so by themselves
    "cache_config": ((), CACHES),
    "max_cache_len": ((), CACHES),
    "prefill_chunk_size": ((), "the config's target.prefill_chunk is what splits prompts"),
    "compile_config": ((), ENGINES),
    "disable_compile": ((False,), ENGINES),
    "output_attentions": ((False,), OUTPUTS),
    "output_hidden_states": ((False,), OUTPUTS),
    "output_scores": ((False,), OUTPUTS),
    "output_logits": ((False,), OUTPUTS),
}
REFUSED_ARGUMENTS = {
    "assistant_model": DRAFTS,
    "synced_gpus": PROCESSES,
    "negative_prompt_ids": "Orthrus has no guidance",
    "negative_prompt_attention_mask": "Orthrus has no guidance",
    "position_ids": "positions follow from attention_mask",
    "past_key_values": CACHES,
    "cache": CACHES,
}
GIVEN_BY_GENERATE = {"attention_mask", "position_ids", "past_key_values", "cache", "use_cache", "logits_to_keep"}


@dataclass(frozen=True)
class GenerateArguments:
    """Arguments of the call of `generate` that it does not pass on."""

    streamer: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, caller: FrameType | None) -> GenerateArguments:
        """Return those of a frame of `generate`; none if somebody else calls."""
        if caller is None or caller.f_code.co_name != "generate" or "custom_generate" not in caller.f_locals:
            return cls()
        names = dict(caller.f_locals)
        return cls(names.get("streamer"), {**names.get("kwargs", {}), **names})


def check_arguments(generation_config: Any, arguments: GenerateArguments, model_kwargs: Mapping[str, Any]) -> None:
    """Raise InputError for the first setting or argument that would change what Orthrus returns."""
    for name, (neutral, why) in REFUSED_SETTINGS.items():
        value = getattr(generation_config, name, None)
        if value is not None and value not in neutral:
            raise _refused(name, why, value)
    for name, why in REFUSED_ARGUMENTS.items():
        value = arguments.values.get(name)
        if value is not None and value is not False:
            raise _refused(name, why)
    for name, value in model_kwargs.items():
        if value is not None and name not in GIVEN_BY_GENERATE:
            raise _refused(name, "Orthrus gives the model tokens, positions and a mask only")


def _refused(name: str, why: str, value: Any = None) -> InputError:
    said = name if value is None else f"{name}={value!r}"
    return InputError(f"generate cannot have {said} with Orthrus: {why}; leave it out")
