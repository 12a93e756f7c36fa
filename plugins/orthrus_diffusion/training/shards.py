"""Answered prompts as integers: each shard a safetensors file with the tokens of its texts, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from orthrus import InputError
from orthrus.files import write_whole

SMALL = 2**16  # vocabularies up to this size are kept in two bytes a token


@dataclass(frozen=True)
class Text:
    """One text: the tokens of a prompt and its answer, and the column at which the answer begins."""

    token_ids: Tensor  # [T] int32
    answer: int

    def __len__(self) -> int:
        return len(self.token_ids)


def write_shard(file: Path, texts: Sequence[tuple[Sequence[int], Sequence[int]]], vocabulary_size: int) -> None:
    """Write prompts and their answers; raise InputError if the file cannot be written."""
    from safetensors.torch import save_file

    kind = torch.uint16 if vocabulary_size <= SMALL else torch.int32
    tokens = torch.tensor([token for prompt, answer in texts for token in (*prompt, *answer)], dtype=torch.int32)
    tensors = {
        "tokens": tokens.to(kind),
        "prompt_lengths": torch.tensor([len(prompt) for prompt, _ in texts], dtype=torch.int32),
        "answer_lengths": torch.tensor([len(answer) for _, answer in texts], dtype=torch.int32),
    }
    write_whole(file, lambda path: save_file(tensors, path))


def read_shards(files: Iterable[Path], vocabulary_size: int) -> list[Text]:
    """Return the texts of all shards in order; raise InputError for a damaged one or one of another vocabulary."""
    return [text for file in files for text in _read(file, vocabulary_size)]


def _read(file: Path, vocabulary_size: int) -> Iterator[Text]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        tokens = tensors["tokens"].to(torch.int32)
        prompts, answers = tensors["prompt_lengths"].tolist(), tensors["answer_lengths"].tolist()
        texts = tokens.split([a + b for a, b in zip(prompts, answers, strict=True)])  # refuses another sum
        if min([0, *prompts, *answers]) < 0:
            raise ValueError("a length is negative")
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"the shard '{file}' is damaged; delete it, and the stage answers makes it anew") from error
    if len(tokens) and int(tokens.max()) >= vocabulary_size:
        raise InputError(f"the shard '{file}' has token {int(tokens.max())}; the model has {vocabulary_size} tokens")
    for text, prompt in zip(texts, prompts, strict=False):  # split gives one empty text where there are none
        yield Text(text, prompt)
