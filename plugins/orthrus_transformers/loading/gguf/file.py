"""A GGUF file: its keys and tensors, and which of them were used.

The reader's rule is that a file is read whole: `unused_keys` and `unused_tensors` are what nobody asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.errors import reason
from orthrus_transformers.loading.patterns import matches, shortened

MAGIC = b"GGUF"
# Keys that change no token: what describes the file, and what other kinds of tokenizers and tasks read.
WITHOUT_EFFECT = (
    "GGUF.*",  # the reader's own: version and counts
    "general.alignment",
    "general.author",
    "general.base_model.*",
    "general.basename",
    "general.dataset*",
    "general.description",
    "general.doi",
    "general.file_type",
    "general.finetune",
    "general.languages",
    "general.license*",
    "general.name",
    "general.organization",
    "general.quantization_version",
    "general.quantized_by",
    "general.repo_url",
    "general.sampling.*",  # of drawing; a penalty is read before
    "general.size_label",
    "general.source.*",
    "general.tags",
    "general.url",
    "general.uuid",
    "general.version",
    "*.tensor_data_layout",  # a note of how weights lie in memory; they are read by their names
    "quantize.imatrix.*",
    "imatrix.*",
    "tokenizer.chat_template.*",  # templates by name, of which the one without a name is used
    "tokenizer.chat_templates",
    "tokenizer.huggingface.json",  # the same tokenizer once more
    "tokenizer.ggml.add_sep_token",  # of tokenizers that end texts in one, which are refused
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.precompiled_charsmap",  # of unigram tokenizers
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.fim_*_token_id",  # for filling in the middle; those that end a text are read before
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.middle_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.token_type_count",
)
TENSORS_WITHOUT_EFFECT = (
    "blk.*.attn_rot_embd.weight",  # angles that old files hold and that follow from the base
)
SPACES = ("general", "tokenizer", "split", "adapter", "clip", "rope", "quantize")  # besides the architecture's own


class GgufFile:
    """Keys and tensors of a GGUF file; every one that is asked for counts as used.

    Raises BuildError for a file that is damaged, a part of several, or no model.
    """

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        self.path = path
        _check_magic(path)
        try:
            reader = GGUFReader(path)
            self._values = {name: _plain(field.contents()) for name, field in reader.fields.items()}
        except Exception as error:  # a damaged file fails anywhere in the reader; the cause is chained
            raise BuildError(f"no model can be loaded from the GGUF file '{path}' ({reason(error)})") from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._used_keys: set[str] = set()
        self._used_tensors: set[str] = set()
        self.architecture = str(self.take("general.architecture"))
        if (parts := self.number("split.count", 1)) > 1:
            raise BuildError(f"'{path}' is one of {parts} parts; join them with llama-gguf-split")
        self._used_keys.update(key for key in self._values if key.startswith("split."))
        if self.take("general.type", "model") != "model":
            raise BuildError(f"'{path}' holds no model, but general.type '{self.take('general.type')}'")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, default: Any = None) -> Any:
        """Return a key's value, and count it as used; the default if the file has no such key."""
        self._used_keys.add(key)
        return self._values.get(key, default)

    def own(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the file's architecture."""
        return self.take(f"{self.architecture}.{key}", default)

    def need(self, key: str) -> Any:
        """Return the value of a key of the architecture; raise BuildError if the file has none."""
        value = self.own(key)
        if value is None:
            raise BuildError(f"the GGUF file '{self.path}' lacks the key '{self.architecture}.{key}'")
        return value

    def number(self, key: str, default: int | float | None = None) -> Any:
        """Return a key's value, or the default; raise BuildError, with key and value, if it is no number."""
        value = self.take(key, default)
        if value is None:
            raise BuildError(f"the GGUF file '{self.path}' lacks the key '{key}'")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BuildError(f"the GGUF file '{self.path}' has {self.value_text(key)}, where a number is meant")
        return value

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Return a whole number of the architecture; raise BuildError if the file has none, or less than `least`."""
        name = f"{self.architecture}.{key}"
        value = self.number(name, default)
        if value != int(value) or value < least:
            raise BuildError(f"the GGUF file '{self.path}' has {name}={value}, where a number from {least} on is meant")
        return int(value)

    def real(self, key: str, default: float | None = None) -> float:
        """Return a number of the architecture; raise BuildError if the file has none."""
        return float(self.number(f"{self.architecture}.{key}", default))

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape as torch has it, the slowest dimension first."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def tensor(self, name: str) -> Tensor:
        """Return a tensor in float32, and count it as used; raise BuildError for a type that cannot be read."""
        from gguf import dequantize

        self._used_tensors.add(name)
        stored = self._tensors[name]
        try:
            values = dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as error:
            kind = stored.tensor_type.name
            raise BuildError(
                f"the tensor '{name}' of '{self.path}' is of type {kind}, which the package gguf cannot read"
            ) from error
        return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(self.shape(name))

    def stored(self, name: str) -> tuple[int, str, int, int]:
        """Return GGUF's number and name of a tensor's type, and where its bytes begin and how many they are.

        It counts as used: whoever asks reads the tensor from there.
        """
        self._used_tensors.add(name)
        tensor = self._tensors[name]
        return int(tensor.tensor_type), tensor.tensor_type.name, int(tensor.data_offset), int(tensor.n_bytes)

    def unused_keys(self) -> list[str]:
        """Return the keys that were not asked for, but for those that are known to be without effect."""
        return [key for key in self._values if key not in self._used_keys and not self._is_without_effect(key)]

    def _is_without_effect(self, key: str) -> bool:
        # No reader of models looks for keys outside of these spaces: publishers leave notes there.
        foreign = key.partition(".")[0] not in (self.architecture, *SPACES)
        return foreign or matches(key, WITHOUT_EFFECT)

    def unused_tensors(self) -> list[str]:
        """Return the names of tensors that were not asked for, but for those known to be without effect."""
        left = (name for name in self._tensors if name not in self._used_tensors)
        return [name for name in left if not matches(name, TENSORS_WITHOUT_EFFECT)]

    def value_text(self, key: str) -> str:
        """Return a key with its value, cut short, for a sentence."""
        return f"{key}={shortened(repr(self._values[key]))}"

    def account(self) -> dict[str, int]:
        """Return how many keys and tensors the file has, and how many of them were used."""
        keys = [key for key in self._values if not key.startswith("GGUF.")]
        return {
            "keys": len(keys),
            "keys_used": len(self._used_keys & set(keys)),
            "tensors": len(self._tensors),
            "tensors_used": len(self._used_tensors),
        }


def _plain(value: Any) -> Any:
    """Return a value as its writer wrote it: a float32 as the shortest number that stands for it."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _check_magic(path: Path) -> None:
    with path.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise BuildError(f"target.source: '{path}' is no GGUF file: it does not start with {MAGIC.decode()}")
