"""Names of a new plugin package: of the part, its class, its module and its distribution; and which are free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec

from orthrus.errors import InputError, shown, unknown
from orthrus.registry.plugins import Plugins

KINDS = ("drafter", "verifier", "cache", "attention", "target")
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40


@dataclass(frozen=True)
class PackageNames:
    """The names of a package that supplies one part."""

    kind: str
    name: str

    @property
    def package(self) -> str:
        """The module that the entry point leads to."""
        return f"orthrus_{self.name}"

    @property
    def distribution(self) -> str:
        """What `pip` calls it, and its folder."""
        return self.package.replace("_", "-")

    @property
    def class_name(self) -> str:
        """The class of the part."""
        return "".join(word.capitalize() for word in [*self.name.split("_"), self.kind])

    @property
    def described(self) -> str:
        """The part, as a sentence has it."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind} '{self.name}'"

    def substitutions(self) -> dict[str, str]:
        """Return what templates have for each of these."""
        return {
            "kind": self.kind,
            "name": self.name,
            "package": self.package,
            "distribution": self.distribution,
            "class_name": self.class_name,
        }


def free_names(kind: str, name: str, plugins: Plugins) -> PackageNames:
    """Return a new package's names; raise InputError, one sentence, for a wrong kind or a name that cannot be taken."""
    if kind not in KINDS:
        raise InputError(unknown("kind of part", kind, KINDS))
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise InputError(
            f"{shown(name)} cannot name a part: write up to {LONGEST} of a-z, 0-9 and single underscores,"
            " a letter first"
        )
    names = PackageNames(kind, name)
    if name in plugins.catalog.names(kind):
        taken = next(entry for entry in plugins.catalog if (entry.kind, entry.name) == (kind, name))
        raise InputError(f"there is {names.described} already, of plugin '{taken.origin}'; choose another name")
    if find_spec(names.package) is not None:
        raise InputError(f"there is a package '{names.package}' installed already; choose another name")
    return names
