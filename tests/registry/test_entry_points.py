"""Plugins installed as packages: broken, duplicate and chosen ones, and what the program says of them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from support.program import TABLE, InProcess, outcome
from support.site import Site

from orthrus import ConfigError, PluginError, Plugins, load

GOOD = """
    from orthrus import hookimpl

    def make(options, parts):
        raise AssertionError("nobody needs it")

    @hookimpl
    def register_drafters(register):
        register({name!r}, make)
"""
RAISING = "raise ValueError('the license\\nhas expired')"
QUITTING = "import sys; sys.exit('goodbye')"
HALF_WAY = GOOD.format(name="half") + "        raise RuntimeError('half way')\n"
MISSPELLED = GOOD.format(name="good") + "\n    @hookimpl\n    def register_drafterss(register): pass\n"
NEEDY = "import a_package_that_is_not_there"


def loaded() -> tuple[Plugins, list[str]]:
    """Return a session and the warnings that came with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = Plugins.load()
    return session, [str(warning.message) for warning in caught]


def built_in() -> set[tuple[str, str]]:
    return {(entry.kind, entry.name) for entry in Plugins.load().catalog}


def test_an_installed_plugin_is_there_with_its_version(site: Site) -> None:
    before = built_in()
    site.install("nice_plugin", GOOD.format(name="nice"), version="4.2", point="nice-point")
    session, warned = loaded()
    entry = session.get("drafter", "nice")
    assert (entry.origin, entry.version) == ("nice-point", "4.2")
    assert {(entry.kind, entry.name) for entry in session.catalog} == before | {("drafter", "nice")}
    assert session.failures == [] == warned


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (RAISING, "ValueError: the license has expired"),
        (QUITTING, "SystemExit: goodbye"),
        (HALF_WAY, "RuntimeError: half way"),
        (MISSPELLED, "unknown hook 'register_drafterss' (did you mean 'register_drafters'?); known: after_gener"),
        (NEEDY, "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
    ],
)
def test_a_broken_plugin_is_left_out_remembered_and_warned_of(code: str, why: str, site: Site) -> None:
    before = built_in()
    site.install("bad_plugin", code, version="0.9")
    site.install("good_plugin", GOOD.format(name="works"))
    session, warned = loaded()
    [failure] = session.failures
    assert (failure.origin, failure.version) == ("bad_plugin", "0.9")
    assert failure.reason.startswith(why)
    assert warned == [f"plugin 'bad_plugin' did not load: {failure.reason}"]
    assert {(entry.kind, entry.name) for entry in session.catalog} == before | {("drafter", "works")}
    session.add(object(), name="bad_plugin")  # the name is free


def test_a_broken_plugin_is_warned_of_once_however_often_it_is_met(site: Site, orthrus: InProcess) -> None:
    site.install("bad_plugin", RAISING)
    done = orthrus("run", "--config", TABLE, "--prompt", "abc")
    assert done.code == 0
    assert done.err.count("orthrus: warning: plugin 'bad_plugin' did not load: ValueError: the license has exp") == 1


def test_an_entry_point_that_leads_nowhere_is_a_failure(site: Site) -> None:
    site.install("hollow", "", target="hollow:plugin")
    session, _ = loaded()
    assert [failure.reason for failure in session.failures] == [
        "AttributeError: module 'hollow' has no attribute 'plugin'"
    ]


def test_a_name_taken_twice_warns_shows_both_origins_and_cannot_be_used(site: Site) -> None:
    site.install("one_plugin", GOOD.format(name="same"), version="1.5")
    site.install("two_plugin", GOOD.format(name="same"), version="2.5")
    session, warned = loaded()
    sentence = "drafter 'same' is registered twice, by 'one_plugin' (1.5) and 'two_plugin' (2.5); uninstall one of them"
    assert warned == [sentence]
    with pytest.raises(PluginError) as raised:
        session.get("drafter", "same")
    assert str(raised.value) == sentence


def test_a_built_in_name_is_not_replaced_silently(site: Site, orthrus: InProcess) -> None:
    site.install("usurper", GOOD.format(name="none"))
    done = orthrus("run", "--config", TABLE, "--prompt", "abc", "drafter.name=none")
    assert done.code == 2
    assert (
        "orthrus: error: override: drafter.name: drafter 'none' is registered twice, by 'orthrus_drafters' (0.1.0) and"
        " 'usurper' (1.0); uninstall one of them\n" in done.err
    )
    assert orthrus("run", "--config", TABLE, "--prompt", "abc").code == 0  # who does not use the name may go on


def test_two_packages_with_one_entry_point(site: Site) -> None:
    site.install("one_plugin", GOOD.format(name="one"), point="same")
    site.install("two_plugin", GOOD.format(name="two"), point="same", version="2.0")
    session, warned = loaded()
    [failure] = session.failures
    assert failure.reason == "it is loaded already, as 'same'"
    assert len(warned) == 1
    assert len({"one", "two"} & set(session.catalog.names("drafter"))) == 1


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_makes_failures_errors(
    value: str, strict: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_STRICT_PLUGINS", value)
    site.install("bad_plugin", RAISING)
    site.install("one_plugin", GOOD.format(name="same"))
    site.install("two_plugin", GOOD.format(name="same"))
    if not strict:
        assert len(loaded()[1]) == 2
        return
    with pytest.raises(PluginError) as raised:
        loaded()
    first, second = str(raised.value).splitlines()
    assert first == "plugin 'bad_plugin' did not load: ValueError: the license has expired"
    assert second.startswith("drafter 'same' is registered twice")


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("orthrus_drafters,orthrus_table", {"orthrus_drafters", "orthrus_table"}),
        (" nice_plugin , ", {"nice_plugin"}),
        ("", set()),
    ],
)
def test_only_the_named_entry_points_are_loaded(
    value: str, origins: set[str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("nice_plugin", GOOD.format(name="nice"))
    site.install("bad_plugin", RAISING)
    monkeypatch.setenv("ORTHRUS_PLUGINS", value)
    session, warned = loaded()
    assert {entry.origin for entry in session.catalog} == origins
    assert warned == []


def test_an_unknown_entry_point_is_an_error(monkeypatch: pytest.MonkeyPatch, orthrus: InProcess) -> None:
    monkeypatch.setenv("ORTHRUS_PLUGINS", "orthrus_drafters,orthrus_tabel")
    with pytest.raises(PluginError, match=r"ORTHRUS_PLUGINS: unknown plugin 'orthrus_tabel' .did you mean 'orthrus_t"):
        Plugins.load()
    assert orthrus("plugins").error().startswith("ORTHRUS_PLUGINS: unknown plugin 'orthrus_tabel'")


def test_a_config_that_names_a_failed_plugin_says_why_it_is_not_there(site: Site, orthrus: InProcess) -> None:
    site.install("clever_drafter", NEEDY)
    done = orthrus("run", "--config", TABLE, "--prompt", "abc", "drafter.name=clever")
    assert done.code == 2
    known = ", ".join(loaded()[0].catalog.names("drafter"))
    assert done.err.splitlines()[-1] == (
        f"orthrus: error: override: drafter.name: unknown drafter 'clever'; known: {known}; plugin 'clever_drafter'"
        " did not load: ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    )


def test_a_part_whose_module_cannot_be_imported_says_so(site: Site, orthrus: InProcess) -> None:
    lazy = GOOD.replace("{name!r}, make", "'lazy', 'lazy_parts:make', options='lazy_parts:Options'")
    site.install("lazy_plugin", lazy)
    arguments = ["run", "--config", TABLE, "--prompt", "abc", "drafter.name=lazy"]
    assert orthrus(*arguments).error() == (
        "override: drafter.name: drafter 'lazy' of plugin 'lazy_plugin' cannot be imported from 'lazy_parts:Options':"
        " ModuleNotFoundError: No module named 'lazy_parts'"
    )
    options = "from dataclasses import dataclass\n@dataclass\nclass Options: pass\n"
    site.module("lazy_parts", options)
    assert orthrus(*arguments).error() == (
        "drafter 'lazy' of plugin 'lazy_plugin' cannot be imported from 'lazy_parts:make': AttributeError: module"
        " 'lazy_parts' has no attribute 'make'"
    )


def test_a_part_that_is_less_than_its_interface_is_refused(site: Site) -> None:
    site.install("thin_plugin", GOOD.format(name="thin").replace('raise AssertionError("nobody needs it")', "return 7"))
    overrides: dict[str, Any] = {"drafter": "thin"}
    with pytest.raises(Exception, match="drafter 'thin' of plugin 'thin_plugin' is no Drafter: it lacks learns, needs"):
        load(TABLE, **overrides)
    with pytest.raises(ConfigError, match=r"argument: drafter\.length: unknown option 'length'; none is known"):
        load(TABLE, drafter={"name": "thin", "length": 3})


def test_a_program_of_its_own_finds_them_too(site: Site) -> None:
    site.install("nice_plugin", GOOD.format(name="nice"), version="4.2")
    site.install("bad_plugin", RAISING)
    done = outcome("plugins", "--json")
    assert done.code == 0
    assert {"kind": "drafter", "name": "nice", "origin": "nice_plugin", "version": "4.2"}.items() <= {
        (entry["kind"], entry["name"]): entry for entry in done.json()["plugins"]
    }["drafter", "nice"].items()
    assert done.err == "orthrus: warning: plugin 'bad_plugin' did not load: ValueError: the license has expired\n"
