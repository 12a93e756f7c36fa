"""Orthrus behind `model.generate`: the callable that transformers takes as `custom_generate`.

May import: loading, target, weight_versions.
"""
