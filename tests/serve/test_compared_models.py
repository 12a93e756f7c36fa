"""Several models behind one address: each is asked for by its name, counts for itself, and its end is the server's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.program import TABLE, InProcess
from support.serving import NAME, Served, decoder_of, letters_target, serving, wait_for

from orthrus import InputError
from orthrus_drafters.none import NoDrafter
from orthrus_serve.settings import ServerSettings


@pytest.fixture(scope="module")
def pair() -> Iterator[Served]:
    """Give a server of two models: one drafts, the other one knows more letters."""
    other = decoder_of(letters_target(50), NoDrafter())
    with serving(compared={"other": other}) as served:
        yield served


def test_each_model_is_asked_for_by_its_name(pair: Served) -> None:
    listed = pair.client.get("/v1/models").json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in listed] == [(NAME, 200), ("other", 50)]
    assert [model["decoding"]["drafter"] for model in listed] == ["prompt_lookup", "none"]
    assert pair.client.get("/v1/models/other").json() == listed[1]
    answers = [pair.completion("abcabc", model=name, max_tokens=20) for name in (NAME, "other")]
    assert answers[0]["choices"][0]["text"] == answers[1]["choices"][0]["text"]
    drafted = [answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] for answer in answers]
    assert drafted[0] and not drafted[1] and [answer["model"] for answer in answers] == [NAME, "other"]
    error = pair.error("/v1/completions", 404, model="third", prompt="abc")
    assert error["message"] == f"there is no model 'third'; there are '{NAME}' and 'other'"
    for path, body in (("/tokenize", {"prompt": "ab"}), ("/detokenize", {"tokens": [0, 1]})):
        assert pair.client.post(path, json=body).json() == pair.post(path, model="other", **body).json() | (
            {"max_model_len": 200} if path == "/tokenize" else {}
        )
    lengths = [
        pair.client.get("/tokenizer_info", params=asked).json()["model_max_length"]
        for asked in ({}, {"model": "other"})
    ]
    assert lengths == [200, 50]


def test_metrics_have_a_model_each_and_every_family_once(pair: Served) -> None:
    pair.completion("abc", model="other", max_tokens=5)
    page = pair.client.get("/metrics").text.splitlines()
    helped = [line for line in page if line.startswith("# HELP")]
    assert len(helped) == len(set(helped))
    counted = [line for line in page if line.startswith("orthrus_generation_tokens_total{")]
    assert {line.partition("}")[0].partition("{")[2] for line in counted} == {
        f'model_name="{NAME}"',
        'model_name="other"',
    }
    assert all(float(line.rpartition(" ")[2]) > 0 for line in counted)


def test_health_is_that_of_all_models() -> None:
    with serving(compared={"other": decoder_of()}) as served:
        assert served.client.get("/health").status_code == 200
        served.end_decoding()
        wait_for(lambda: served.client.get("/health").status_code == 503)
        served.error("/v1/completions", 503, prompt="abc")
        served.completion("abc", model="other")


def test_two_models_of_one_name_are_refused(orthrus: InProcess) -> None:
    error = orthrus("serve", "--config", TABLE, "--compare", TABLE).error()
    assert error.startswith("two configs have the name 'table-prompt-lookup'") and "--model-name" in error
    names = ServerSettings(TABLE, model="first", compared=(TABLE, Path("other.yaml"))).configs()
    assert names == {"first": TABLE, TABLE.stem: TABLE, "other": Path("other.yaml")}
    with pytest.raises(InputError):
        ServerSettings(TABLE, model="first", compared=(TABLE, TABLE)).configs()
