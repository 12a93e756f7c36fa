"""Answers: a request becomes a plan, its choices are decoded, and are sent as one object or as a stream of chunks.

May import: decoding, errors, state, wire.
"""
