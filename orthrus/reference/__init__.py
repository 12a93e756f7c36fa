"""Naive implementations that decoding is compared with: small, slow, and sharing no code with what they judge.

May import: batch, chance, errors, files, interfaces, values.
"""
