"""What tests of plugins start from: a naive oracle that shares no code with the loop, and a model that is a table."""

from orthrus.testing.oracle import OracleAnswer, greedy
from orthrus.testing.table import Letters, TableTarget

__all__ = ["Letters", "OracleAnswer", "TableTarget", "greedy"]
