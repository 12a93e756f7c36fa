"""Vocabularies of a draft model and its target, which must be the same but for what pads a model's logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus import BuildError, Target
from orthrus.optional import HasVocabulary, name_of


def check_vocabulary(own: Target, target: Target) -> None:
    """Raise BuildError, with both sizes and the first token that differs, if a draft model has another vocabulary.

    Where both have tokenizers, each token is compared. Then the sizes of the logits may differ: some models have more
    than there are tokens.
    """
    if isinstance(own.tokenizer, HasVocabulary) and isinstance(target.tokenizer, HasVocabulary):
        texts, wanted = _by_id(own.tokenizer), _by_id(target.tokenizer)
        if texts != wanted:
            first = min(token for token in {*texts, *wanted} if texts.get(token) != wanted.get(token))
            spelled = " and ".join(repr(known[first]) if first in known else "none" for known in (texts, wanted))
            raise BuildError(f"{_sizes(own, len(texts), target, len(wanted))}; token {first} is the first: {spelled}")
    elif own.vocabulary_size != target.vocabulary_size:
        first = min(own.vocabulary_size, target.vocabulary_size)
        sizes = _sizes(own, own.vocabulary_size, target, target.vocabulary_size)
        raise BuildError(f"{sizes}; token {first} is the first that only one of them has")


def fitted(logits: Tensor, vocabulary_size: int) -> Tensor:
    """Return logits [..., U] as [..., V]: further tokens are impossible, and those beyond V are left out."""
    missing = vocabulary_size - logits.shape[-1]
    return logits if missing == 0 else pad(logits, (0, missing), value=float("-inf"))


def known(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """Return tokens as a model of U tokens can take them: a padding that it lacks as its last one."""
    return torch.clamp(tokens, max=vocabulary_size - 1)


def _by_id(tokenizer: HasVocabulary) -> dict[int, str]:
    return {id: token for token, id in tokenizer.vocabulary().items()}


def _sizes(own: Target, size: int, target: Target, wanted: int) -> str:
    names = f"draft model '{name_of(own)}' has another vocabulary than target '{name_of(target)}'"
    return f"{names}: {size:,} tokens, not {wanted:,}" if size != wanted else f"{names}, of {size:,} tokens as well"
