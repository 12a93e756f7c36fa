"""Generation settings of a model's config files: its end tokens, and settings that greedy decoding would have.

Only what the files say counts: a config class has defaults of its own (an end token, for one), which are no model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orthrus_transformers.loading.config_keys import read_json

FILES = ("config.json", "generation_config.json")
# Settings of transformers' `generate` that change greedy text, and the option that stands for one.
CHANGING: Mapping[str, Callable[[Any], str] | None] = {
    "repetition_penalty": lambda value: f"sampling.repetition_penalty: {value}",
    "bad_words_ids": lambda value: f"sampling.bad_words: {value}",
    "suppress_tokens": lambda value: f"sampling.logit_bias: {{{', '.join(f'{token}: -.inf' for token in value)}}}",
    "min_new_tokens": lambda value: f"stop.min_new_tokens: {value}",
    "stop_strings": lambda value: f"stop.strings: {value}",
    "begin_suppress_tokens": None,
    "encoder_no_repeat_ngram_size": None,
    "encoder_repetition_penalty": None,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": None,
    "min_length": None,
    "no_repeat_ngram_size": None,
    "num_beams": None,
    "penalty_alpha": None,
    "sequence_bias": None,
    "watermarking_config": None,
}
NEUTRAL = {"repetition_penalty": 1, "encoder_repetition_penalty": 1, "guidance_scale": 1, "num_beams": 1}


def end_tokens(model: Any, directory: Path | None) -> frozenset[int]:
    """Return all end tokens that the model's files name, or its configs if there are no files; 0 is as good as any."""
    if directory is None:
        configs = (model.config, model.config.get_text_config(), model.generation_config)
        named = [_ids(getattr(config, "eos_token_id", None)) for config in configs]
    else:
        named = list(_named(directory).values())
    vocabulary_size = model.config.get_text_config().vocab_size
    return frozenset(token for ids in named for token in ids if 0 <= token < vocabulary_size)


def differing_end_tokens(directory: Path | None) -> str | None:
    """Return a sentence if each config file names an end token that the other does not; else None."""
    named = {} if directory is None else _named(directory)
    first, second = (named.get(file, frozenset()) for file in FILES)
    if not first or not second or first <= second or second <= first:
        return None
    return (
        f"config.json names the end token{_s(first)} {sorted(first)}, generation_config.json {sorted(second)};"
        " answers end at any of them"
    )


def unapplied_settings(directory: Path | None) -> str | None:
    """Return a sentence on what the files ask of `generate` that changes greedy text; None if they ask nothing."""
    written = {} if directory is None else _generation_settings(directory)
    asked = {name: value for name, value in written.items() if name in CHANGING and _says(name, value)}
    if not asked:
        return None
    options = [option(asked[name]) for name in asked if (option := CHANGING[name]) is not None]
    others = [name for name in asked if CHANGING[name] is None]
    hints = [f"to have {'it' if len(asked) == 1 else 'them'}, set {', '.join(options)}"] if options else []
    hints += [f"no option stands for {', '.join(others)}"] if others else []
    said = ", ".join(f"{name}={value}" for name, value in asked.items())
    return f"the model's files ask for {said}, which is not applied; {' and '.join(hints)}"


def _generation_settings(directory: Path) -> Mapping[str, Any]:
    """Return what generation_config.json says; as transformers does, what config.json says if there is none."""
    config, generation = (directory / file for file in FILES)
    return read_json(generation if generation.is_file() else config)


def _named(directory: Path) -> dict[str, frozenset[int]]:
    """Return the end tokens by the file that names them."""
    end_tokens_by_file = {file: _ids(read_json(directory / file).get("eos_token_id")) for file in FILES}
    inner = read_json(directory / FILES[0]).get("text_config")
    if isinstance(inner, dict):
        end_tokens_by_file[FILES[0]] |= _ids(inner.get("eos_token_id"))
    return end_tokens_by_file


def _ids(named: Any) -> frozenset[int]:
    listed = named if isinstance(named, (list, tuple)) else [named]
    numbers = (token for token in listed if isinstance(token, (int, float)) and not isinstance(token, bool))
    return frozenset(int(token) for token in numbers if token == int(token))


def _says(name: str, value: Any) -> bool:
    return value not in (None, False, 0, [], {}, "", NEUTRAL.get(name))


def _s(things: frozenset[int]) -> str:
    return "s" if len(things) > 1 else ""
