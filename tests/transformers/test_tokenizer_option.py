"""The option `tokenizer` of the target: tokens and chat template from elsewhere than the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.trainable import LETTERS, put_tokenizer, tiny_model

import orthrus
from orthrus import Decoder, InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny model with a tokenizer of letters."""
    return tiny_model(tmp_path_factory.mktemp("tokenizer") / "model")


def load(model: Path, **target: Any) -> Decoder:
    options = {"name": "transformers", "source": str(model), "dtype": "float32", "device": "cpu", **target}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    return orthrus.load({"target": options, **parts, "stop": {"max_new_tokens": 4}})


def test_tokens_and_template_are_the_others(model: Path, tmp_path: Path) -> None:
    put_tokenizer(
        tmp_path, letters=LETTERS[::-1], template="{% for one in messages %}a{{ one['content'] }}{% endfor %}"
    )
    own, other = load(model), load(model, tokenizer=str(tmp_path))
    last = len(LETTERS) - 1
    assert (own.encode("ab", chat=False), other.encode("ab", chat=False)) == ([0, 1], [last, last - 1])
    assert other.encode("b") == [last, last - 1]
    assert other.generate([[5, 6]])[0].token_ids == own.generate([[5, 6]])[0].token_ids


def test_what_holds_no_tokenizer(model: Path, tmp_path: Path) -> None:
    shutil.copy(model / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"target.tokenizer: '.*' holds no tokenizer \(tokenizer.json\)"):
        load(model, tokenizer=str(tmp_path))
    with pytest.raises(InputError, match=r"target\.tokenizer: "):
        load(model, tokenizer=str(tmp_path / "nowhere"))


def test_tokens_that_the_model_lacks(model: Path, tmp_path: Path) -> None:
    put_tokenizer(tmp_path, letters=LETTERS + "".join(map(chr, range(0x400, 0x410))))
    decoder = load(model, tokenizer=str(tmp_path), chat=False)
    with pytest.raises(InputError, match="is no token; there are 128"):
        decoder.encode("a\u040f")
