"""Wire types: the bodies of requests, checked field by field. What cannot be honoured is refused by its name.

May import: errors.
"""
