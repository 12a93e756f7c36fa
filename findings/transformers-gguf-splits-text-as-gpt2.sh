#!/usr/bin/env bash
# One guesses: a tokenizer that transformers makes of a GGUF file splits text as the file says, or refuses the file.
# It is so for some values of `tokenizer.ggml.pre` (llama-bpe, qwen2, tekken, gpt-4o, ...). With any other (smollm,
# deepseek-llm, deepseek-coder, command-r, a misspelt one) text is split as GPT-2 splits it, and nothing is said: digits
# stay together that llama.cpp takes one by one, for one. And `tokenizer.ggml.add_space_prefix` of a SentencePiece
# vocabulary is read and changes nothing: texts begin with a space where the file says that they do not.
# Where it bites: token ids other than those that the model was trained with, and than llama.cpp's of the same file.
# Prompts are worse than they should be, and drafts or caches that go by token ids do not fit between the two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 gguf==0.19.0 \
    sentencepiece==0.2.2 accelerate==1.15.0
cat > "$folder/try.py" <<'PY'
import logging
import sys
import warnings
from pathlib import Path

import gguf
import transformers
from transformers import AutoTokenizer

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
folder = Path(sys.argv[1])
print("transformers", transformers.__version__, "gguf", gguf.__version__ if hasattr(gguf, "__version__") else "0.19.0")


def tokenizer_of(kind, tokens, types, merges=None, pre=None, space=None):
    """A GGUF file with a vocabulary and no weights, read by transformers."""
    writer = gguf.GGUFWriter(folder / "vocabulary.gguf", "llama")
    for add in (writer.add_block_count, writer.add_head_count, writer.add_head_count_kv):
        add(1)
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_feed_forward_length):
        add(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores([0.0] * len(tokens))
    if pre:
        writer.add_tokenizer_pre(pre)
    if space is not None:
        writer.add_add_space_prefix(space)
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoTokenizer.from_pretrained(folder, gguf_file="vocabulary.gguf")


TOKENS = ["<end>", *"1234xS'sĊ", "12", "123", "1234", "'S", "ĊĊ"]
MERGES = ["1 2", "12 3", "123 4", "' S", "Ċ Ċ"]
splits = {}
for pre in (None, "gpt-2", "llama-bpe", "qwen2", "smollm", "deepseek-llm", "deepseek-coder", "command-r", "no such"):
    read = tokenizer_of("gpt2", TOKENS, [3] + [1] * (len(TOKENS) - 1), MERGES, pre)
    splits[pre] = [read.convert_ids_to_tokens(read(text)["input_ids"]) for text in ("1234", "x'S", "x\n\nx")]
    print(f"tokenizer.ggml.pre={pre}: {splits[pre]}")
PIECES = ["<end>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b"]
spaces = {}
for space in (None, True, False):
    read = tokenizer_of("llama", PIECES, [3] + [6] * 256 + [1] * 5, space=space)
    spaces[space] = read.convert_ids_to_tokens(read("a b")["input_ids"])
    print(f"tokenizer.ggml.add_space_prefix={space}: 'a b' is {spaces[space]}")
assert splits["llama-bpe"] != splits["gpt-2"] != splits["qwen2"], "known ones are not applied any more"
for pre in ("smollm", "deepseek-llm", "deepseek-coder", "command-r", "no such"):
    assert splits[pre] == splits["gpt-2"], f"{pre} is applied, or refused"
assert spaces[False] == spaces[True], "the key changes something now"
PY
"$folder/env/bin/python" "$folder/try.py" "$folder"
