"""Whoever imports a module by the name that it had once is told the name that it has."""

from __future__ import annotations

import importlib
import re

import pytest
from support.site import Site

from orthrus import Plugins
from orthrus.moved import MOVED


@pytest.mark.parametrize("name", MOVED)
def test_the_error_of_an_old_name_has_the_new_one(name: str) -> None:
    new = re.split(r"[ ;]", MOVED[name])[0]
    with pytest.raises(ModuleNotFoundError, match=f"'{name}' has moved: it is {new}"):
        importlib.import_module(name)
    assert importlib.import_module(new)


def test_a_plugin_that_imports_an_old_name_is_refused_with_the_new_one(site: Site) -> None:
    site.install("old_plugin", "from orthrus.types import Draft")
    with pytest.warns(UserWarning, match=r"'orthrus\.types' has moved: it is orthrus\.values"):
        session = Plugins.load()
    assert [failure.origin for failure in session.failures] == ["old_plugin"]
    assert "'orthrus.types' has moved: it is orthrus.values" in session.failures[0].reason


def test_a_module_that_never_was_is_not_found_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'orthrus\.typs'"):
        importlib.import_module("orthrus.typs")
