"""Helpers of drafters: passes of the target, and how many tokens are worth drafting.

May import: accepted_path, batch, chance, choices, draft_memory, errors, files, interfaces, machine, one_pass, optional,
ranks, sampling, settings, trees, unfinished_files, values.
"""
