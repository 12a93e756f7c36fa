"""Kernels of a model's layers: Triton on GPUs, oneDNN on CPUs.

May import: nothing else.
"""
