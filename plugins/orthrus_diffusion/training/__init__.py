"""Training of a view, in stages: prompts, answers, fit, eval. Each goes on where it was interrupted.

May import: drafter, successor, view_files.
"""
