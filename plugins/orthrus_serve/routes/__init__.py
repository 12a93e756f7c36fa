"""Routes of the server, a module for each kind of thing that clients ask for.

May import: answers, decoding, errors, state, wire.
"""
