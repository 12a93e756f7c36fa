"""Plugins given as objects: what they may do, what is refused, and that nothing of a refused one stays."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from support.program import TABLE

from orthrus import ConfigError, PluginError, Plugins, Register, hookimpl, load, option


def make(options: object, parts: object) -> object:
    return object()


@dataclass(frozen=True)
class Options:
    size: int = option(3, help="how large")


class Drafters:
    """A plugin that supplies one drafter, and the same object as a target to be watched."""

    def __init__(self, name: str = "mine", factory: Any = make, options: Any = None) -> None:
        self.__name__ = f"plugin_of_{name}"
        self.registration = name, factory, options

    @hookimpl
    def register_drafters(self, register: Register) -> None:
        register(*self.registration)


class HalfWay:
    """A plugin that raises after it registered something, in the second of its hooks."""

    @hookimpl
    def register_targets(self, register: Register) -> None:
        register("half", make)

    @hookimpl
    def register_drafters(self, register: Register) -> None:
        register("half", make)
        raise RuntimeError("half way\nthrough")


class Misspelled:
    @hookimpl
    def register_drafters(self, register: Register) -> None:
        register("good", make)

    @hookimpl
    def register_verifierss(self, register: Register) -> None:
        register("never", make)


class WithDefault:
    @hookimpl
    def register_drafters(self, register: Register = print) -> None:  # type: ignore[assignment]
        register("never", make)


class ForeignArgument:
    @hookimpl
    def register_drafters(self, register: Register, verbose: bool) -> None:
        register("never", make)


class Unmarked:
    def register_drafters(self, register: Register) -> None:
        register("never", make)


class Quitting:
    @hookimpl
    def register_drafters(self, register: Register) -> None:
        raise SystemExit("enough")


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    monkeypatch.setenv("ORTHRUS_PLUGINS", "")
    return Plugins.load()


REFUSED = {
    HalfWay: "RuntimeError: half way through",
    Misspelled: "unknown hook 'register_verifierss' (did you mean 'register_verifiers'?); known: after_generation",
    WithDefault: "hook 'register_drafters' gives register a default, and would never receive the caller's value",
    ForeignArgument: "PluginValidationError: Plugin 'ForeignArgument' for hook 'register_drafters'",
    Unmarked: "'register_drafters' is not marked with @orthrus.hookimpl, and would never be called",
    Quitting: "SystemExit: enough",
}


@pytest.mark.parametrize("plugin", REFUSED)
def test_a_refused_plugin_leaves_nothing_behind(plugin: type, empty: Plugins) -> None:
    refused = plugin()
    for _ in range(2):  # it is not taken for one that is loaded already
        with pytest.raises(PluginError) as raised:
            empty.add(refused)
        assert str(raised.value).startswith(f"plugin '{plugin.__name__}' did not load: {REFUSED[plugin]}")
        assert "\n" not in str(raised.value)
        assert list(empty.catalog) == []
    empty.add(Drafters("another"), name=plugin.__name__)  # nor is its name taken, and no hook of its is called
    assert [(entry.kind, entry.name) for entry in empty.catalog] == [("drafter", "another")]


@pytest.mark.parametrize("plugin", REFUSED)
def test_a_refused_plugin_does_not_disturb_others(plugin: type, empty: Plugins) -> None:
    empty.add(Drafters("before"))
    with pytest.raises(PluginError):
        empty.add(plugin())
    empty.add(Drafters("after"))
    assert empty.catalog.names("drafter") == ["after", "before"]
    assert empty.catalog.names("target") == []


def test_the_cause_of_a_failure_is_chained(empty: Plugins) -> None:
    with pytest.raises(PluginError) as raised:
        empty.add(HalfWay())
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_late_plugin_works_like_an_early_one(empty: Plugins) -> None:
    empty.add(Drafters("early", options=Options), version="2.0")
    early = empty.get("drafter", "early")
    empty.add(Drafters("late", options=Options), name="package_of_late", version="0.3")
    late = empty.get("drafter", "late")
    assert (late.kind, late.name, late.origin, late.version) == ("drafter", "late", "package_of_late", "0.3")
    assert (early.origin, early.version) == ("plugin_of_early", "2.0")
    assert late.load_factory() is make
    assert late.load_options() is Options


def test_a_late_plugin_decodes() -> None:
    session = Plugins.load()
    session.add(Drafters("late", factory="orthrus_drafters.none:make"))
    wanted = load(TABLE, drafter="none").generate(["abc"])[0].token_ids
    assert load(TABLE, plugins=session, drafter="late").generate(["abc"])[0].token_ids == wanted
    plugin = Drafters("given", factory="orthrus_drafters.none:make")
    assert load(TABLE, plugins=[plugin], drafter="given").generate(["abc"])[0].token_ids == wanted
    with pytest.raises(ConfigError, match="unknown drafter 'late'"):
        load(TABLE, drafter="late")


def test_sessions_share_nothing(empty: Plugins) -> None:
    empty.add(Drafters("mine"))
    assert Plugins.load().catalog.names("drafter") == []


def test_a_name_taken_twice_shows_both_origins_and_drops_the_second(empty: Plugins) -> None:
    empty.add(Drafters("mine"), name="first", version="1.0")
    with pytest.raises(PluginError) as raised:
        empty.add(Drafters("mine"), name="second", version="2.0")
    assert str(raised.value) == (
        "drafter 'mine' is registered twice, by 'first' (1.0) and 'second' (2.0); uninstall one of them"
    )
    assert empty.get("drafter", "mine").origin == "first"
    assert [entry.origin for entry in empty.catalog] == ["first"]
    empty.add(Drafters("other"), name="second")


def test_a_name_taken_twice_by_one_plugin_is_refused(empty: Plugins) -> None:
    class Twice(Drafters):
        @hookimpl
        def register_drafters(self, register: Register) -> None:
            register("mine", make)
            register("mine", make)

    with pytest.raises(PluginError, match=r"registered twice, by 'plugin_of_mine' .* and 'plugin_of_mine'"):
        empty.add(Twice())
    assert list(empty.catalog) == []


def test_one_name_may_serve_several_kinds(empty: Plugins) -> None:
    class Several:
        @hookimpl
        def register_drafters(self, register: Register) -> None:
            register("mine", make)

        @hookimpl
        def register_caches(self, register: Register) -> None:
            register("mine", make)

    empty.add(Several())
    assert [(entry.kind, entry.name) for entry in empty.catalog] == [("drafter", "mine"), ("cache", "mine")]


def test_a_plugin_is_added_once(empty: Plugins) -> None:
    plugin = Drafters("mine")
    empty.add(plugin)
    with pytest.raises(PluginError, match="plugin 'plugin_of_mine' did not load: it is loaded already"):
        empty.add(plugin)
    with pytest.raises(PluginError, match="plugin 'again' did not load: it is loaded already, as 'plugin_of_mine'"):
        empty.add(plugin, name="again")
    assert empty.catalog.names("drafter") == ["mine"]


@pytest.mark.parametrize(
    ("registration", "complaint"),
    [
        (("", make), "a drafter must be registered under a name, not ''"),
        ((7, make), "a drafter must be registered under a name, not 7"),
        (("mine", None), "the factory of drafter 'mine' must be callable or 'module:Name', not None"),
        (("mine", "module.Name"), "the factory of drafter 'mine' must be callable or 'module:Name', not 'module.Name'"),
        (("mine", "module:"), "the factory of drafter 'mine' must be callable or 'module:Name', not 'module:'"),
        (("mine", make, Options()), "the options of drafter 'mine' must be a dataclass or 'module:Name', not Options("),
        (("mine", make, int), "the options of drafter 'mine' must be a dataclass or 'module:Name', not <class 'int'>"),
    ],
)
def test_a_registration_that_cannot_work_is_refused(
    registration: tuple[Any, ...], complaint: str, empty: Plugins
) -> None:
    plugin = Drafters()
    plugin.registration = (*registration, None)[:3]
    with pytest.raises(PluginError) as raised:
        empty.add(plugin)
    assert str(raised.value).startswith(f"plugin 'plugin_of_mine' did not load: {complaint}")
    assert list(empty.catalog) == []


@pytest.mark.parametrize(
    ("factory_path", "why"),
    [
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:no_such_name", "AttributeError: module 'json' has no attribute 'no_such_name'"),
    ],
)
def test_a_place_that_is_not_there_is_said_when_it_is_needed(factory_path: str, why: str, empty: Plugins) -> None:
    empty.add(Drafters("factory", factory=factory_path))
    empty.add(Drafters("options", options=factory_path))
    for name in ("factory", "options"):
        entry = empty.get("drafter", name)
        with pytest.raises(PluginError) as raised:
            getattr(entry, f"load_{name}")()
        assert str(raised.value) == (
            f"drafter '{name}' of plugin 'plugin_of_{name}' cannot be imported from '{factory_path}': {why}"
        )


def test_options_that_are_no_dataclass_are_said_when_they_are_needed(empty: Plugins) -> None:
    empty.add(Drafters("mine", options="json:JSONDecoder"))
    with pytest.raises(PluginError, match="the options of drafter 'mine' of plugin 'plugin_of_mine' cannot be used"):
        empty.get("drafter", "mine").load_options()


def test_a_module_is_a_plugin_too(empty: Plugins) -> None:
    @hookimpl
    def register_caches(register: Register) -> None:
        register("module", make)

    module = ModuleType("a_module")
    module.register_caches = register_caches  # type: ignore[attr-defined]
    empty.add(module)
    assert empty.get("cache", "module").origin == "a_module"


def test_an_unknown_name_says_what_exists(empty: Plugins) -> None:
    empty.add(Drafters("prompt_lookup"))
    with pytest.raises(PluginError) as raised:
        empty.get("drafter", "promt_lookup")
    assert str(raised.value) == ("unknown drafter 'promt_lookup' (did you mean 'prompt_lookup'?); known: prompt_lookup")
    with pytest.raises(PluginError, match="unknown cache 'x'; none is known"):
        empty.get("cache", "x")
