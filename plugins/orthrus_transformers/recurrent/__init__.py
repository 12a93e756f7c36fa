"""Recurrent layers: states that cannot be cropped are kept from before a scored draft and moved on by what is accepted.

G: layers of one kind, B: rows, R: rows of a pass, n: tokens of a row.

May import: nothing else.
"""
