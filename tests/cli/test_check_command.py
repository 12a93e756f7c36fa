"""`orthrus check`: what it prints, how it ends, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.parts import FORGETFUL, LENIENT, drafter
from support.program import InProcess
from support.site import Site

from orthrus.testing import factory_of, named_check
from orthrus.testing.checks import EVERY_CHECK

HONEST = "return context.empty_draft()"
CACHE = "from orthrus_caches.dynamic import DynamicCache\n\n\nclass Mine(DynamicCache): ...\n"
TOO_LONG = (
    "n = context.max_room + 1\nreturn Draft(torch.zeros(len(context.rows), n, dtype=torch.int64), context.room + 1)"
)
FEW = ("slots_stand_until_kept", "rows_may_move")  # checks of a cache


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave a kind only these checks; tests/kit holds parts to all of them."""

    def leave(kind: str, *names: str) -> None:
        rules = [named_check(kind, name) for name in names]
        monkeypatch.setitem(EVERY_CHECK, kind, lambda: rules)

    return leave


def test_a_part_that_passes(orthrus: InProcess) -> None:
    done = orthrus("check", "dynamic")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[-1] == "18 checks ran: 18 passed; 1 did not apply: the cache does not declare `rounded` (1)"
    assert {line.split()[1].rstrip(":") for line in lines[:-1]} == {check.name for check in EVERY_CHECK["cache"]()}
    skipped = [line for line in lines[:-1] if not line.startswith("ok ")]
    assert skipped == ["-      rounding_is_small: the cache does not declare `rounded`"]


def test_what_does_not_apply_is_said_with_its_reason(orthrus: InProcess, only: Callable[..., None]) -> None:
    only("verifier", "greedy_text", "coupled_text")
    done = orthrus("check", "consensus")
    assert done.code == 0
    assert "-      coupled_text: the verifier does not declare `coupled`\n" in done.out
    assert done.out.splitlines()[-1].startswith("1 check ran: 1 passed; 1 did not apply: ")


def test_a_part_that_fails(site: Site, orthrus: InProcess, only: Callable[..., None]) -> None:
    only("verifier", "keeps_only_the_targets_choices", "greedy_text", "inputs_are_left_alone")
    site.install("lenient_verifier", LENIENT)
    done = orthrus("check", "lenient")
    assert (done.code, done.err) == (1, "")
    assert "FAILED verifier check 'keeps_only_the_targets_choices' failed\n  rule:  " in done.out
    assert 'make = factory_of("lenient", "verifier")' in done.out


def test_a_check_that_is_known_to_fail(site: Site, orthrus: InProcess, only: Callable[..., None]) -> None:
    only("verifier", "keeps_only_the_targets_choices", "greedy_text", "inputs_are_left_alone")
    site.install("lenient_verifier", LENIENT)
    failing = json.loads(orthrus("check", "lenient", "--json").out)
    names = [check["name"] for check in failing["checks"] if check["status"] == "failed"]
    done = orthrus("check", "lenient", *(f"--expect={name}=issue 12" for name in names))
    assert done.code == 0
    assert f"known  {names[0]}: issue 12\n" in done.out
    assert done.out.splitlines()[-1].partition("; ")[0].endswith(f"{len(names)} expected to fail")
    assert "is expected to fail for no reason" in orthrus("check", "lenient", "--expect=greedy_text=").error()
    assert "must be written CHECK=REASON" in orthrus("check", "lenient", "--expect=greedy_text").error()


def test_what_is_not_about_a_rule_is_told_in_a_line(site: Site, orthrus: InProcess) -> None:
    site.install("odd_drafter", drafter("return None"))
    done = orthrus("check", "odd")
    assert done.code == 1
    full = [line for line in done.out.splitlines() if line.startswith("FAILED drafter check")]
    assert full == ["FAILED drafter check 'draft_has_its_form' failed"]
    assert "  value: it returned a NoneType\n" in done.out
    brief = [
        line.partition(": ")[2] for line in done.out.splitlines() if line.startswith("FAILED ") and line not in full
    ]
    assert len(brief) == 25 and set(brief) == {"drafter 'odd' returned a NoneType, not a Draft"}


@pytest.mark.parametrize("raises", ["raise SystemExit(3)", "raise RuntimeError('no idea')"])
def test_of_what_raises_everywhere_one_failure_is_shown_in_full(raises: str, site: Site, orthrus: InProcess) -> None:
    site.install("odd_drafter", drafter(raises))
    done = orthrus("check", "odd")
    assert done.code == 1
    assert "FAILED greedy_text: it raised " in done.out and "(propose, odd_drafter.py, line " in done.out
    assert done.out.count("to see it again") == done.out.count("FAILED drafter check 'draft_has_its_form' failed") == 1


def test_json_has_every_check(site: Site, orthrus: InProcess) -> None:
    site.install("odd_drafter", drafter(TOO_LONG))
    done = orthrus("check", "odd", "--json")
    assert done.code == 1
    report = done.json()
    assert (report["part"], report["kind"]) == ("odd", "drafter")
    assert [check["name"] for check in report["checks"]] == [check.name for check in EVERY_CHECK["drafter"]()]
    [room] = [check for check in report["checks"] if check["name"] == "draft_fits_the_room"]
    assert room["status"] == "failed" and "tokens for a row with room for" in room["reason"]
    assert " failed; 6 did not apply: the drafter reads no hidden states (6)" in report["summary"]


def test_options_are_overrides(orthrus: InProcess, only: Callable[..., None]) -> None:
    only("cache", *FEW)
    assert orthrus("check", "static", "cache.slots=16").code == 0
    assert orthrus("check", "static", "cache.slots=1").error() == "override: cache.slots: must be at least 16, not 1"


def test_a_target_is_checked_with_any_cache(orthrus: InProcess, only: Callable[..., None]) -> None:
    command = ("check", "table", "target.alphabet=abcd", "target.max_length=20")
    done = orthrus(*command)
    assert done.code == 0 and "20 checks ran: 20 passed" in done.out
    only("target", "score_gives_its_own_logits", "keep_forgets_what_was_rejected")
    done = orthrus(*command, "cache.name=static", "cache.slots=16")
    assert done.code == 0 and "2 checks ran: 2 passed" in done.out


def test_a_broken_target_fails(site: Site, orthrus: InProcess) -> None:
    site.install("forgetful_target", FORGETFUL)
    done = orthrus("check", "forgetful")
    assert done.code == 1
    assert "FAILED target check 'keep_forgets_what_was_rejected' failed" in done.out


def test_a_class_is_checked_where_it_lies(
    orthrus: InProcess, only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("cache", *FEW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_cache.py").write_text(CACHE, encoding="utf-8")
    done = orthrus("check", "my_cache:Mine")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "2 checks ran: 2 passed"
    (tmp_path / "my_drafter.py").write_text(drafter(TOO_LONG), encoding="utf-8")
    done = orthrus("check", "my_drafter:Odd")
    assert done.code == 1
    assert 'make = factory_of("my_drafter:Odd", "drafter")' in done.out


def test_a_factory_in_a_module_needs_its_kind(orthrus: InProcess, only: Callable[..., None]) -> None:
    only("cache", *FEW)
    error = orthrus("check", "orthrus_caches.dynamic:make").error()
    assert error.startswith(
        "it cannot be told which kind of part 'orthrus_caches.dynamic:make' makes; say so with --kind"
    )
    assert orthrus("check", "orthrus_caches.dynamic:make", "--kind", "cache").code == 0


BAD = {
    "an unknown part": (["promt_lookup"], "unknown part 'promt_lookup' (did you mean 'prompt_lookup'?); known: "),
    "an unknown kind": (["dynamic", "--kind", "cash"], "unknown kind of part 'cash' (did you mean 'cache'?); known: "),
    "a part of another kind": (["dynamic", "--kind", "drafter"], "argument: drafter.name: unknown drafter 'dynamic'"),
    "an unknown option": (["prompt_lookup", "drafter.lenght=3"], "override: drafter.lenght: unknown option 'lenght'"),
    "an option of another part": (
        ["prompt_lookup", "sampling.temperature=1"],
        "override 'sampling.temperature=1' is of no use to the checks of a drafter",
    ),
    "a target without its model": (["transformers", "--kind", "target"], "argument: target.source: is required"),
    "no such module": (["no_such_module:Drafter"], "'no_such_module:Drafter' cannot be imported: ModuleNotFoundError"),
    "no such class": (["orthrus_caches.dynamic:Drafter"], "'orthrus_caches.dynamic:Drafter' cannot be imported"),
    "no class": (["orthrus_caches.dynamic:GROWTH"], "'orthrus_caches.dynamic:GROWTH' is a int, wanted a class or"),
    "options of a class": (
        ["orthrus_caches.dynamic:DynamicCache", "cache.slots=3"],
        "'orthrus_caches.dynamic:DynamicCache' takes no overrides (cache.slots=3): options belong to registered parts",
    ),
    "a class that is not written in Python": (
        ["builtins:dict", "--kind", "cache"],
        "it cannot be told what 'builtins:dict' takes: no signature found",
    ),
    "a module that leaves": (["leaving:Drafter"], "'leaving:Drafter' cannot be imported: SystemExit"),
    "needs that are a word": (
        ["lettered:Odd"],
        "drafter 'lettered:Odd' declares `needs` wrongly: 'views', wanted a set of names: frozenset({'views'})",
    ),
    "a class that takes too much": (
        ["orthrus_diffusion.drafter:Diffusion"],
        "'orthrus_diffusion.drafter:Diffusion' takes target and block and mask_token_id",
    ),
    "nothing that can be checked here": (
        ["diffusion", "drafter.view=smollm2-135m-instruct"],
        "no check of drafter 'diffusion' could run: drafter.view: ",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(
    name: str, orthrus: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    lettered = drafter(HONEST).replace("needs = frozenset()", 'needs = "views"')
    (tmp_path / "lettered.py").write_text(lettered, encoding="utf-8")
    arguments, sentence = BAD[name]
    assert orthrus("check", *arguments).error().startswith(sentence)


NEEDING = """
from dataclasses import dataclass
from typing import ClassVar
from orthrus import BuildError, hookimpl, option
from orthrus_drafters.none import NoDrafter


@dataclass(frozen=True)
class Options:
    checked_with: ClassVar = {own}
    model: str = option(help="the model that drafts")

def make(options, parts):
    if options.model != "table":
        raise BuildError(f"there is no model '{{options.model}}'")
    return NoDrafter()

@hookimpl
def register_drafters(register):
    register("needing", make, options=Options)
"""


def test_diffusion_is_checked_with_a_view(orthrus: InProcess, only: Callable[..., None]) -> None:
    only("drafter", "draft_has_its_form", "committed_slots_are_left_alone")
    done = orthrus("check", "diffusion")
    assert (done.code, done.err) == (0, "")
    with_what, summary = done.out.splitlines()[-2:]
    assert with_what == "with   drafter.view=copies drafter.block=4"
    assert summary == "2 checks ran: 2 passed"
    done = orthrus("check", "diffusion", "drafter.block=3", "--json")
    assert done.json()["overrides"] == ["drafter.view=copies", "drafter.block=3"]


def test_what_a_table_lacks_is_said_with_what_to_do(site: Site, orthrus: InProcess) -> None:
    site.install("needing_drafter", NEEDING.format(own="()"))
    sentence = orthrus("check", "needing").error()
    assert sentence == "argument: drafter.model: is required: the model that drafts; write drafter.model=..."
    sentence = orthrus("check", "needing", "drafter.model=mine").error()
    assert sentence.startswith("no check of drafter 'needing' could run: there is no model 'mine'; ")
    assert sentence.endswith("or hand it what it needs in a test, with drafter_checks()")


@pytest.mark.thorough
def test_options_say_what_a_part_is_checked_with(site: Site, orthrus: InProcess) -> None:
    site.install("needing_drafter", NEEDING.format(own='("model=table",)'))
    done = orthrus("check", "needing")
    assert done.code == 0 and "with   drafter.model=table\n" in done.out
    assert (
        factory_of("needing").reproduction[-1] == 'make = factory_of("needing", "drafter", [\'drafter.model=table\'])'
    )


@pytest.mark.parametrize("own", ['"model=table"', "(3,)", '("model",)', "None"])
def test_options_that_say_it_wrongly_are_refused(own: str, site: Site, orthrus: InProcess) -> None:
    site.install("needing_drafter", NEEDING.format(own=own))
    sentence = orthrus("check", "needing").error()
    assert sentence.startswith("the options of drafter 'needing' have checked_with=")


def test_a_registered_part_that_declares_nonsense_is_refused_at_once(site: Site, orthrus: InProcess) -> None:
    site.install("odd_drafter", drafter(HONEST).replace("needs = frozenset()", 'needs = frozenset({"veiws"})'))
    sentence = orthrus("check", "odd").error()
    start = (
        "drafter 'odd' of plugin 'odd_drafter' declares `needs` wrongly: unknown name 'veiws' (did you mean 'views'?)"
    )
    assert sentence.startswith(start)


def test_a_name_of_two_kinds_wants_one(site: Site, orthrus: InProcess, only: Callable[..., None]) -> None:
    only("drafter", "draft_has_its_form")
    site.install("odd_drafter", drafter(HONEST).replace('register("odd"', 'register("dynamic"'))
    assert orthrus("check", "dynamic").error() == "'dynamic' is the name of a cache and a drafter; choose with --kind"
    assert orthrus("check", "dynamic", "--kind", "drafter").code == 0
