"""A tiny model that can be trained from the command line, and a folder with all that this takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import ascii_letters

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from support.released import plain_base

LETTERS = ascii_letters + "".join(map(chr, range(0x100, 0x100 + 74)))  # for nearly every id: what is sampled is seen
MASK = len(LETTERS)  # special
STAGES = ("prompts", "answers", "fit", "eval")
TEMPLATE = "{% for one in messages %}u{{ one['content'] }}{% endfor %}{% if add_generation_prompt %}v{% endif %}"


def tiny_model(folder: Path) -> Path:
    """Make a tiny model with a tokenizer of letters, a special token and a chat template."""
    model = plain_base(folder)
    put_tokenizer(model)
    return model


def put_tokenizer(model: Path, letters: str = LETTERS, begin: str = "", template: str = TEMPLATE) -> None:
    """Give a model a tokenizer of letters, which puts the letter `begin` before any text that is no chat."""
    tokenizer = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate(letters)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True)])
    if begin:
        tokenizer.post_processor = TemplateProcessing(f"{begin} $A", None, [(begin, letters.index(begin))])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.chat_template = template
    fast.save_pretrained(model)


def end_answers_with(model: Path, letters: str) -> None:
    """Let a model's texts end with any of these letters; it speaks the toy language, so it comes by each soon."""
    file = model / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "eos_token_id": [LETTERS.index(letter) for letter in letters]}))


def lay_out(base: Path, folder: Path) -> Path:
    """Write a training config, prompts and a model into a folder; return the config."""
    shutil.copytree(base, folder / "model")
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in ("abc", "bcdefg", "cegik", "fedcba"))
    (folder / "given.jsonl").write_text(lines)
    file = folder / "train.yaml"
    file.write_text(
        "target: {name: transformers, source: ./model, dtype: float32, device: cpu}\nattention: {name: sdpa}\n"
        "cache: {name: dynamic}\nverifier: {name: consensus}\ndrafter: {name: none}\n"
        f"training: {{out: out, mask_token_id: {MASK}, block: 4}}\n"
        "prompts: {sampled: 0, files: [given.jsonl]}\nanswers: {max_new_tokens: 12, batch: 4}\n"
        "fit: {steps: 2, rows: 2, rows_at_a_time: 1, loss_rows: 1, row_tokens: 32, anchors: 4, save_every: 1}\n"
        "eval: {files: [given.jsonl], prompts: 2, max_new_tokens: 4}\n"
    )
    return file


def made() -> set[str]:
    """Return the files that a training left."""
    return {str(file.relative_to("out")) for file in Path("out").rglob("*") if file.is_file()}
