"""Tokens that end an answer in a GGUF file: those that keys name, and those that llama.cpp knows by their text."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import BuildError
from orthrus_transformers.loading.gguf.file import GgufFile

KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# For filling in the middle: a padding, another repository and another file end what is written, too.
FILL_KEYS = {
    "fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep_token_id": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep_token_id": ("<|file_sep|>",),
}
TEXTS = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<|tool_response>",
        "<｜end▁of▁sentence｜>",  # noqa: RUF001  # deepseek writes it with these letters
        "[e~[",
    }
)
# Where these are there, `<|end|>` ends a message and not the answer.
AFTER_MESSAGES = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"}, {"<|call|>", "<|flush|>"})


def end_tokens(file: GgufFile, tokens: Sequence[str]) -> list[int]:
    """Return the ids of all tokens that end an answer, in order; none that the vocabulary does not have."""
    numbered = {token: index for index, token in enumerate(tokens)}
    texts = set(TEXTS)
    if any(both <= numbered.keys() for both in AFTER_MESSAGES):
        texts.discard("<|end|>")
    token_ids = {numbered[text] for text in texts & numbered.keys()}
    token_ids |= {file.take(f"tokenizer.ggml.{key}") for key in KEYS if f"tokenizer.ggml.{key}" in file}
    for key, names in FILL_KEYS.items():
        known = [numbered[name] for name in names if name in numbered][:1]
        token_ids |= {file.take(f"tokenizer.ggml.{key}", known[0] if known else None)}
    _check_range(file, len(tokens))
    return sorted(token for token in token_ids if token is not None and 0 <= token < len(tokens))


def _check_range(file: GgufFile, count: int) -> None:
    for key in KEYS:
        name = f"tokenizer.ggml.{key}"
        if name in file and not 0 <= file.number(name) < count:
            raise BuildError(f"'{file.path}' contradicts itself: {name}={file.number(name)}, and it has {count} tokens")
