"""Configs: their schema, and how files, overrides and arguments are composed.

May import: errors, files, options, registry, settings.
"""

from orthrus.config.schema import Config

__all__ = ["Config"]
