"""Processes that torchrun started and that decode one text together: one rank decides, and all do the same.

May import: errors, interfaces, terminal, values.
"""
