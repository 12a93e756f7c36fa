"""The rows that are being decoded: their state, and how a step is checked, committed, shown and recorded.

May import: errors, kernels, machine, metrics, paths, settings, values.
"""
