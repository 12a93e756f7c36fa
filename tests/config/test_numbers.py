"""Integers in files and overrides are decimal: the same one in both, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from orthrus import ConfigError, Plugins
from orthrus.config.compose import read_layers, read_overrides
from orthrus.config.numbers import other_number
from orthrus.config.schema import load_config

OTHERS = ["017", "08", "-017", "+01", "00", "0x1F", "0b11", "0o17", "1:30", "1:30.5", "190:20:30", "0_7"]
TABLE = "target: {name: table}\ncache: {name: dynamic}\ndrafter: {name: none}\nverifier: {name: consensus}\n"


@pytest.mark.parametrize("number", OTHERS)
@pytest.mark.parametrize("source", ["seed: {}", "stop: {{token_ids: [1, {}]}}", "sampling: {{logit_bias: {{{}: 1}}}}"])
def test_what_is_not_decimal_is_refused_in_a_file_and_an_override(source: str, number: str, tmp_path: Path) -> None:
    text = source.format(number)
    (tmp_path / "run.yaml").write_text(f"{text}\n")
    [problem] = read_layers(tmp_path / "run.yaml")[1]
    assert problem.message.startswith(f"{number} (line 1, column ")
    key, _, value = text.partition(": ")
    with pytest.raises(ConfigError, match="no decimal number"):
        read_overrides([f"{key}={value}"])


@pytest.mark.parametrize("number", ["017", "08", "٣", "1_0", "+1"])
def test_a_key_of_an_override_is_decimal_too(number: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(TABLE)
    biased = read_overrides([f"sampling.logit_bias.{number}=1"])
    with pytest.raises(ConfigError, match="logit_bias"):
        load_config(tmp_path / "run.yaml", [biased], Plugins.load())


@given(st.integers(-(10**20), 10**20))
def test_a_decimal_integer_is_read_as_it_is(number: int) -> None:
    assert other_number(f"seed: {number}") is None
    assert OmegaConf.to_container(OmegaConf.from_dotlist([f"seed={number}"])) == {"seed": number}


@pytest.mark.parametrize(
    "text", ["'017'", '"1:30"', "1.5", ".5", "1e-3", "-.inf", "a017", "12:ab", "0.0", "10:00pm", "owner/0x1F", "- 0"]
)
def test_texts_and_fractions_are_left_alone(text: str) -> None:
    assert other_number(text) is None


@given(st.from_regex(r"[-+]?[0-9][0-9_:xob.a-f]{0,8}", fullmatch=True).filter(lambda text: text[-1] != ":"))
def test_whatever_yaml_reads_as_another_integer_is_refused(text: str) -> None:
    if other_number(f"- {text}") is not None:
        return
    [value] = OmegaConf.to_container(OmegaConf.create(f"- {text}"))
    if isinstance(value, int) and not isinstance(value, bool):
        assert value == int(text.replace("_", ""))
