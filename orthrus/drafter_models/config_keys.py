"""Keys of a `config.json`: each one is used, known to change nothing, or refused by name and value."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from orthrus.errors import InputError, shown

REQUIRED: Any = object()
WITHOUT_EFFECT = (  # on what a drafter computes: of training, of tokenizers, and of transformers' base class
    "add_cross_attention",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "has_no_defaults_at_init",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "max_position_embeddings",  # rotary positions have no end; a kind that depends on it reads it
    "max_window_layers",  # layer_types say it layer by layer
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",  # what a drafter needs of embeddings and head is asked for by name
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


def read_config_file(directory: Path) -> dict[str, Any]:
    """Return what a directory's config.json holds; raise InputError if there is none or it is no mapping."""
    if not directory.is_dir():
        raise InputError(f"there is no directory '{directory}'")
    file = directory / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"the directory '{directory}' holds no config.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"'{file}' must hold a mapping, not a {type(values).__name__}")
    return values


class ConfigKeys:
    """Hand out the values of a mapping, and refuse what nobody asked for.

    A key that is null counts as absent, as it does to those who write these files.
    """

    def __init__(self, values: Mapping[str, Any], file: Path, prefix: str = "") -> None:
        self._values, self._file, self._prefix = values, file, prefix
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def integer(self, key: str, default: Any = REQUIRED, *, minimum: int = 1) -> Any:
        """Return an integer of at least the minimum, or the default where there is none."""
        value = self._value(key, default)
        if value is default:
            return value
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.refusal(key, f"must be an integer of at least {minimum}")
        return value

    def number(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a number, or the default where there is none."""
        value = self._value(key, default)
        if value is default:
            return value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.refusal(key, "must be a number")
        return float(value)

    def truth(self, key: str, default: Any = REQUIRED) -> Any:
        """Return True or False, or the default where there is neither."""
        value = self._value(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.refusal(key, "must be true or false")
        return value

    def integers(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a tuple of integers, or the default where there is none."""
        value = self._value(key, default)
        if value is default:
            return value
        if not isinstance(value, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        ):
            raise self.refusal(key, "must be a list of integers")
        return tuple(value)

    def words(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a tuple of texts, or the default where there is none."""
        value = self._value(key, default)
        if value is default:
            return value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refusal(key, "must be a list of texts")
        return tuple(value)

    def choice(self, key: str, choices: Collection[str], default: Any = REQUIRED) -> Any:
        """Return one of the texts, or the default where there is none."""
        value = self._value(key, default)
        if value is not default and (not isinstance(value, str) or value not in choices):
            raise self.refusal(key, f"must be {' or '.join(map(repr, choices))}")
        return value

    def section(self, key: str) -> ConfigKeys:
        """Return the keys of a mapping below this key; an empty one where there is none."""
        value = self._value(key, {})
        if not isinstance(value, dict):
            raise self.refusal(key, "must be a mapping")
        return ConfigKeys(value, self._file, f"{self._prefix}{key}.")

    def must_be(self, key: str, *neutral: Any, why: str) -> None:
        """Accept a key that is absent or has one of these values, which change nothing; refuse any other."""
        value = self._value(key, None)
        if value is not None and not any(value == item and type(value) is type(item) for item in neutral):
            raise self.refusal(key, why)

    def ignore(self, keys: Iterable[str]) -> None:
        """Accept keys that change nothing here, whatever they hold."""
        self._asked.update(keys)

    def finish(self) -> None:
        """Raise InputError if there is a key that nobody asked for, unless it is null or private to who wrote it."""
        for key, value in self._values.items():
            if key not in self._asked and value is not None and not key.startswith("_"):
                raise self.refusal(key, "is a key that is not known here, and it could change what is computed")

    def refusal(self, key: str, why: str) -> InputError:
        """Return the error about a key: its full name, its value and why."""
        held = shown(self._values[key]) if key in self._values else "absent"
        return InputError(f"{self._prefix}{key} in '{self._file}' is {held}: it {why}")

    def _value(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is not None:
            return value
        if default is REQUIRED:
            raise InputError(f"{self._prefix}{key} is missing in '{self._file}'")
        return default
