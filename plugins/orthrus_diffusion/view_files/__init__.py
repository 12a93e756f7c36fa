"""Files of a view: their formats, conversion, where views are shipped, and their model cards.

May import: successor.
"""
