"""Tokenizers and chat templates without transformers: the tokens and texts that it gives of the same files."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_models import byte_level, sentencepiece, texts, write_model
from transformers import AutoTokenizer

from orthrus import BuildError, InputError
from orthrus_transformers.loading.chat_template import render_chat
from orthrus_transformers.loading.file_tokenizer import FileTokenizer, load_file_tokenizer
from orthrus_transformers.loading.gguf_cache import described
from orthrus_transformers.loading.tokenizer import TextTokenizer

CHATML = "{% for m in messages %}{{'<|turn|>' + m['role'] + '\\n' + m['content'] + '<|end|>'}}{% endfor %}"
TEMPLATES = [
    CHATML + "{% if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}{% endif %}",
    # spaces around tags, a namespace, loop controls, the special tokens, JSON
    """
    {%- set ns = namespace(count=0, last='') %}
    {{- bos_token if bos_token is defined else '' }}
    {% for message in messages %}
        {% if message.role == 'system' %}
            {% continue %}
        {% endif %}
        {% set ns.count = ns.count + 1 %}
        {% set ns.last = message['role'] %}
        {{ message | tojson }} {{ message.content | trim }}
        {% if loop.index > 3 %}{% break %}{% endif %}
    {% endfor %}
    {{ ns.count }} {{ ns.last }} {{ tools is none }} {{ documents }} {{ dict(a=1) | tojson(indent=1) }}
    """,
    # what an assistant wrote, marked; reasoning by either name; an error of its own
    """{% for message in messages %}
    {%- if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}
    {%- if message.role == 'assistant' %}{% generation %}{{ message.content }}|{{ message.reasoning_content }}
    {%- endgeneration %}{% else %}{{ message.content }}{% endif %}{% endfor %}{{ eos_token }}""",
]
WRITERS = {
    "byte-level": byte_level,
    "digits": functools.partial(byte_level, pre="smollm"),
    "llama 3": functools.partial(byte_level, pre="llama-bpe"),
    "sentencepiece": sentencepiece,
    "sentencepiece, as it is": functools.partial(sentencepiece, prefix=False),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the description of a file with each kind of tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORTHRUS_CACHE", str(folder / "cache"))
        return {
            name: described(write_model(folder / f"{name}.gguf", "llama", write), lambda note: None)
            for name, write in WRITERS.items()
        }


def both(folder: Path) -> tuple[TextTokenizer, TextTokenizer]:
    """Return a folder's tokenizer without transformers, and transformers'."""
    return load_file_tokenizer(folder, chat=True), TextTokenizer(AutoTokenizer.from_pretrained(folder), chat=True)


@pytest.mark.parametrize("name", WRITERS)
def test_tokens_and_texts_are_those_of_transformers(name: str, folders: Mapping[str, Path]) -> None:
    own, theirs = both(folders[name])
    for said in ("special_tokens", "byte_tokens"):
        assert getattr(own, said) == getattr(theirs, said)
    assert own.vocabulary() == theirs.vocabulary()
    assert own.description() == theirs.description()

    @given(st.one_of(st.sampled_from(texts(200)), st.text(min_size=1)))
    def same_both_ways(text: str) -> None:
        ids = own.encode(text)
        assert ids == theirs.encode(text)
        assert own.decode(ids) == theirs.decode(ids)

    @given(st.lists(st.integers(0, len(own.vocabulary()) - 1), max_size=12))
    def same_texts(ids: Sequence[int]) -> None:
        assert own.decode(ids) == theirs.decode(ids)

    same_both_ways()
    same_texts()


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "tool"]),
            "content": st.one_of(st.text(), st.sampled_from(texts(50))),
        },
        optional={"name": st.sampled_from(["x", "<|end|>"]), "tool_calls": st.just([{"id": 1, "of": ["f"]}])},
    ),
    min_size=1,
    max_size=4,
)


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates raise what they like: the same by both
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_are_rendered_as_by_transformers(template: str, folders: Mapping[str, Path]) -> None:
    own, theirs = FileTokenizer(folders["sentencepiece"]), AutoTokenizer.from_pretrained(folders["sentencepiece"])
    own.chat_template = theirs.chat_template = template

    @given(MESSAGES)
    def same(messages: Sequence[Mapping[str, Any]]) -> None:
        assert _rendered(own, messages) == _rendered(theirs, messages)

    same()


@pytest.mark.parametrize("way_out", ["{{ dict.mro() }}", "{{ namespace(__class__=1) }}", "{{ ''.__class__.mro() }}"])
def test_templates_do_not_get_out(way_out: str) -> None:
    with pytest.raises(Exception, match=r"unsafe|private|no attribute .mro"):
        render_chat(way_out, [{"role": "user", "content": "x"}], {})


def test_what_is_no_plain_data_is_named_and_not_handed_over() -> None:
    class Loud(str):
        def shout(self) -> str:
            return "HA"

    messages = [{"role": "user", "content": Loud("x"), "image": object(), "none": None}]
    said = render_chat("{{ messages[0].content.shout is defined }} {{ messages | tojson }}", messages, {})
    assert said == f"False {json.dumps([{'role': 'user', 'content': 'x', 'image': '<object>'}])}"


def test_a_damaged_tokenizer_is_named(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no tokenizer can be loaded from"):
        load_file_tokenizer(tmp_path, chat=True)
    own = load_file_tokenizer(folders["byte-level"], chat=True)
    with pytest.raises(InputError, match="the model has no chat template"):
        own.encode([{"role": "user", "content": "x"}])
