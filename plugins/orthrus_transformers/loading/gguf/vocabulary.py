"""The tokenizer of a GGUF file, as one of the package `tokenizers` with transformers around it.

Two kinds are read: `gpt2`, byte-level vocabularies with merges, and `llama`, sentencepiece vocabularies with scores.
What llama.cpp does with a text, this does: tokens that the file calls control, user-defined or unknown are found in the
text first, and the rest is split, spelled and merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orthrus import BuildError
from orthrus_transformers.loading.gguf.end_tokens import FILL_KEYS, TEXTS
from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer, split_by

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # of `tokenizer.ggml.token_type`
SPACE = "▁"
SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")  # parts of an answer, whatever the file calls them
FILL_TEXTS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>")
STRIPPED = ("phi-3", "phi3")  # names of models whose special tokens take up the spaces behind them
UNSTRIPPED = ("<unk>", "<s>", "<|endoftext|>")
SENTENCEPIECE_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # where the file names none


@dataclass(frozen=True)
class Vocabulary:
    """A file's tokens with their types, and the ids of special ones by their role."""

    tokens: Sequence[str]
    types: Sequence[int]
    roles: dict[str, int | None]

    def special(self) -> Iterator[tuple[str, bool]]:
        """Yield the tokens that are found in a text before it is split, and whether they are left out of answers."""
        fill = {name for names in FILL_KEYS.values() for name in names} | set(FILL_TEXTS)
        for token, kind in zip(self.tokens, self.types, strict=True):
            if token in SHOWN:
                yield token, False
            elif kind in (CONTROL, UNKNOWN) or token in TEXTS or token in fill:
                yield token, True
            elif kind == USER_DEFINED:
                yield token, False


def read_tokens(file: GgufFile) -> list[str]:
    """Return the file's tokens in order; raise BuildError for a vocabulary that has none, or one of them twice."""
    tokens = list(file.take("tokenizer.ggml.tokens", ()))
    if not tokens:
        raise BuildError(f"the GGUF file '{file.path}' holds no tokens (tokenizer.ggml.tokens)")
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
    if len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise BuildError(f"the vocabulary of '{file.path}' has the token {twice!r} twice")
    return tokens


def make_tokenizer(file: GgufFile, tokens: Sequence[str]) -> Any:
    """Return transformers' tokenizer; raise BuildError for a kind that is not read."""
    from transformers import PreTrainedTokenizerFast

    kind = file.take("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise BuildError(
            f"'{file.path}' has a tokenizer of the kind {kind!r} (tokenizer.ggml.model), which is not read; read are"
            " 'gpt2' and 'llama'"
        )
    vocabulary = _vocabulary(file, tokens, kind)
    tokenizer, begins = _byte_level(file, vocabulary) if kind == "gpt2" else _sentencepiece(file, vocabulary)
    _add_special(file, tokenizer, vocabulary)
    _add_ends(file, tokenizer, vocabulary, begins)
    named = {f"{'unk' if role == 'unknown' else role}_token": id for role, id in vocabulary.roles.items()}
    texts = {name: tokens[id] for name, id in named.items() if id is not None}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **texts)
    fast.chat_template = file.take("tokenizer.chat_template")
    return fast


def _vocabulary(file: GgufFile, tokens: Sequence[str], kind: str) -> Vocabulary:
    types = file.take("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) < len(tokens):
        raise BuildError(f"'{file.path}' has {len(tokens)} tokens and {len(types)} types of them")
    defaults = SENTENCEPIECE_IDS if kind == "llama" else {}
    roles: dict[str, int | None] = {}
    for role in ("bos", "eos", "unknown"):
        id = file.take(f"tokenizer.ggml.{role}_token_id", defaults.get(role))
        roles[role] = id if id is not None and 0 <= id < len(tokens) else None
    return Vocabulary(tokens, types[: len(tokens)], roles)


def _byte_level(file: GgufFile, vocabulary: Vocabulary) -> tuple[Any, bool]:
    from tokenizers import Tokenizer, decoders, models

    pre = _pre_tokenizer(file)
    file.take("tokenizer.ggml.scores")  # these vocabularies go by merges
    file.take("tokenizer.ggml.add_space_prefix")  # and are spelled with their spaces
    merges = [_pair(merge) for merge in file.take("tokenizer.ggml.merges", ())]
    numbered = {token: index for index, token in enumerate(vocabulary.tokens)}
    merges = [(left, right) for left, right in merges if {left, right, left + right} <= numbered.keys()]
    tokenizer = Tokenizer(models.BPE(vocab=numbered, merges=merges, ignore_merges=pre.whole_words))
    tokenizer.pre_tokenizer = split_by(pre)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre.begins


def _pre_tokenizer(file: GgufFile) -> PreTokenizer:
    name = file.take("tokenizer.ggml.pre", "default")
    if name not in PRE_TOKENIZERS:
        raise BuildError(
            f"'{file.path}' splits text as {name!r} says (tokenizer.ggml.pre), which is not known; prompts would get"
            f" other tokens. Known: {', '.join(sorted(PRE_TOKENIZERS))}"
        )
    return PRE_TOKENIZERS[name]


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge[1:].partition(" ")  # the first part has at least one letter, which may be a space
    return merge[0] + left, right


def _sentencepiece(file: GgufFile, vocabulary: Vocabulary) -> tuple[Any, bool]:
    from tokenizers import Tokenizer, decoders, models, normalizers

    file.take("tokenizer.ggml.pre")  # says nothing of these vocabularies
    file.take("tokenizer.ggml.merges")  # nor do merges: they follow from the scores
    scores = file.take("tokenizer.ggml.scores")
    if not scores or len(scores) < len(vocabulary.tokens):
        raise BuildError(f"'{file.path}' has {len(vocabulary.tokens)} tokens and {len(scores or ())} scores of them")
    numbered = {token: index for index, token in enumerate(vocabulary.tokens)}
    unknown = vocabulary.roles["unknown"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=numbered,
            merges=merges_by_score(vocabulary.tokens, scores),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefixed = bool(file.take("tokenizer.ggml.add_space_prefix", True))
    first = [normalizers.Prepend(SPACE)] if prefixed else []
    tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    stripped = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *stripped]
    )
    return tokenizer, True


def merges_by_score(tokens: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return the merges that a vocabulary implies: of two tokens whose join is one, the likeliest first."""
    numbered = {token: index for index, token in enumerate(tokens)}
    scored_merges: list[tuple[float, int, int, str, str]] = []
    for token, score in zip(tokens, scores, strict=False):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in numbered and right in numbered:
                scored_merges.append((-score, numbered[left], numbered[right], left, right))
    return [(left, right) for *_, left, right in sorted(scored_merges)]


def _add_special(file: GgufFile, tokenizer: Any, vocabulary: Vocabulary) -> None:
    from tokenizers import AddedToken

    name = str(file.take("general.name", "")).lower()
    strips = any(part in name for part in STRIPPED)
    special: list[Any] = []
    shown: list[Any] = []
    for token, hidden in vocabulary.special():
        rstrip = strips and token not in UNSTRIPPED
        (special if hidden else shown).append(
            AddedToken(token, special=hidden, normalized=False, rstrip=rstrip)
        )  # fmt: skip
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(shown)


def _add_ends(file: GgufFile, tokenizer: Any, vocabulary: Vocabulary, begins: bool) -> None:
    """Let texts begin and end with special tokens, if the file or its kind says so."""
    from tokenizers import processors

    ends = {"bos": bool(file.take("tokenizer.ggml.add_bos_token", begins))}
    ends["eos"] = bool(file.take("tokenizer.ggml.add_eos_token", False))
    ids = {role: vocabulary.roles[role] for role, asked in ends.items() if asked}
    texts = {role: vocabulary.tokens[id] for role, id in ids.items() if id is not None}
    if not texts:
        return
    before, after = [[texts[role]] if role in texts else [] for role in ("bos", "eos")]
    pairs = [(vocabulary.tokens[id], id) for id in ids.values() if id is not None]
    tokenizer.post_processor = processors.Sequence(
        [
            *([processors.ByteLevel(trim_offsets=False)] if tokenizer.normalizer is None else []),
            processors.TemplateProcessing(single=[*before, "$A", *after], special_tokens=pairs),
        ]
    )
