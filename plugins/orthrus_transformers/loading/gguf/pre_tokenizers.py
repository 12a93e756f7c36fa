"""Pre-tokenizers of byte-level vocabularies, which split text before merging, by the value of `tokenizer.ggml.pre`.

Each value stands for the expressions that a model's own tokenizer.json has, applied one after the other: a match and
what lies between two matches are pieces of their own. Source: llama.cpp's `llama-vocab.cpp`, which names the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
ANY_CASE = rf"(?i:{CONTRACTIONS})"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SIGNS, LINES, SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ASCII_SIGN = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"

GPT2 = rf"{CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{SPACES}"
LLAMA3 = rf"{ANY_CASE}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}|{LINES}|{SPACES}"
QWEN2 = rf"{ANY_CASE}|{WORD}|\p{{N}}|{SIGNS}|{LINES}|{SPACES}"
QWEN35 = (
    rf"{ANY_CASE}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{LINES}|{SPACES}"
)
SEED_CODER = rf"{ANY_CASE}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{LINES}|{SPACES}"
BAILING = rf"'(?i:[sdmt]|ll|ve|re)|{WORD}|\p{{N}}|{SIGNS}|\s*[\r\n]|{SPACES}"
EXAONE_MOE = (
    rf"{ANY_CASE}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|{SPACES}"
)
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{{end}}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{{end}}"
CASED_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
TEKKEN = CASED.replace("{end}", "") + rf"|\p{{N}}|{CASED_SIGNS}|{LINES}|{SPACES}"
GPT4O = CASED.replace("{end}", f"{ANY_CASE}?") + rf"|\p{{N}}{{1,3}}|{CASED_SIGNS}|{LINES}|{SPACES}"
YOUTU = CASED.replace("{end}", f"{ANY_CASE}?") + rf"|\p{{N}}|{CASED_SIGNS}|{LINES}|{SPACES}"
DEEPSEEK3 = rf"{ASCII_SIGN}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{LINES}|{SPACES}"
JAIS2_SPACES = "|".join(rf"\s{{{count}}}(?!\S)" for count in (512, 256, 128, 64, 32, 16, 8, 4))
JAIS2 = rf"{ANY_CASE}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}|{LINES}|{JAIS2_SPACES}|\s{{1,2}}(?!\S)|\s{{1}}"
UNCONTRACTED = rf"{WORD}|\p{{N}}|{SIGNS}|{LINES}|{SPACES}"
SPARK = DEEPSEEK3.replace(r"[\p{P}\p{S}]+[\r\n]*", r"[\p{P}\p{S}]+").replace(LINES, r"[\r\n]")
CHAMELEON = (
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2,
)
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
HAN_KANA = "[一-龥぀-ゟ゠-ヿ]+"


@dataclass(frozen=True)
class PreTokenizer:
    """Expressions that split text, and what else a value of `tokenizer.ggml.pre` stands for.

    whole_words: a piece that is in the vocabulary is one token, whatever its merges; begins: texts begin with the
    vocabulary's first special token, if the file does not say.
    """

    splits: tuple[str, ...]
    whole_words: bool = False
    begins: bool = False


_LLAMA3 = PreTokenizer((LLAMA3,), whole_words=True, begins=True)
_GPT2 = PreTokenizer((GPT2,))
_DIGITS = PreTokenizer((r"\p{N}", GPT2))
_QWEN2 = PreTokenizer((QWEN2,))
_GPT4O = PreTokenizer((GPT4O,))
_DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", HAN_KANA, DEEPSEEK3))
_BAILING = PreTokenizer((BAILING,))
_DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "default": _DEFAULT,
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        _LLAMA3,
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), PreTokenizer((LLAMA3,))),
    **dict.fromkeys(
        ("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "modern-bert", "mpt", "olmo", "jais", "trillion"), _GPT2
    ),
    **dict.fromkeys(("granite-docling", "exaone4", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"), _GPT2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"), _DIGITS
    ),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"),
        _QWEN2,
    ),
    "qwen35": PreTokenizer((QWEN35,)),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT4O),
    "tekken": PreTokenizer((TEKKEN,), whole_words=True, begins=True),
    "seed-coder": PreTokenizer((SEED_CODER,)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING),
    "exaone-moe": PreTokenizer((EXAONE_MOE,)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK3),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
    "youtu": PreTokenizer(
        ("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", YOUTU), whole_words=True
    ),
    "jais-2": PreTokenizer((JAIS2,)),
    "minicpm5": PreTokenizer((r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), whole_words=True),
    "ufakzeka": PreTokenizer((UNCONTRACTED,)),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), PreTokenizer((BLOOM,))),
    "viking": PreTokenizer((BLOOM, r"\p{N}")),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), PreTokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O))),
    "spark2_5": PreTokenizer((r"\p{N}{1,3}", HAN_KANA, SPARK, r"\p{N}")),
    "chameleon": PreTokenizer(CHAMELEON, begins=True),
    "laguna": PreTokenizer((r"[^\n]+|[\n]+", QWEN2)),
}


def split_by(pre: PreTokenizer) -> Any:
    """Return the pre-tokenizer of the package `tokenizers`: the splits, then bytes as letters."""
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(expression), behavior="isolated") for expression in pre.splits]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
