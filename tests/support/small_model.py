"""A folder of a tiny random model with a tokenizer of bytes and a chat template, for programs that load both."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to", "house"]
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def save_model(folder: Path) -> None:
    """Write the model and its tokenizer to a folder."""
    tokenizer = tokenizer_of_bytes()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,  # so that the likeliest tokens are far from each other
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def tokenizer_of_bytes() -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes, and of a few words that it was trained on."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=TEMPLATE)


def save_config(file: Path, model: Path) -> None:
    """Write a config that samples by seed from a model in float32."""
    config = {
        "target": {"name": "transformers", "source": str(model), "dtype": "float32", "device": "cpu"},
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "prompt_lookup"},
        "verifier": {"name": "coupled"},
    }
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
