"""The target `table`: a model that is a lookup table, for tests and for learning how the parts fit together."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_targets(register: Register) -> None:
    register("table", "orthrus_table.table:make", options="orthrus_table.options:TableOptions")
