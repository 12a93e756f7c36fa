"""Plugins, the names that they register, and what a registered part must have.

May import: errors, hookspecs, interfaces, optional, options, values, watched.
"""
