"""Finds out why little of a drafter's drafts is accepted: trials that change one thing each, measured and ranked.

May import: build, config, decoder, errors, interfaces, metrics, optional, options, prompts, registry, values.
"""
