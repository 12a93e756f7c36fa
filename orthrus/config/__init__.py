"""Configs: their schema, and how files, overrides and arguments are composed.

May import: errors, options, registry, values.
"""

from orthrus.config.schema import Config

__all__ = ["Config"]
