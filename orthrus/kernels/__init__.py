"""Triton kernels of the decode step; each has a twin in torch.

May import: errors.
"""
