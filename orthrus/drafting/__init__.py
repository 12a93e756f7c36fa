"""Helpers of drafters: passes of the target, and how many tokens are worth drafting.

May import: batch, chance, choices, errors, files, interfaces, machine, optional, ranks, sampling, settings, trees,
unfinished_files, values.
"""
