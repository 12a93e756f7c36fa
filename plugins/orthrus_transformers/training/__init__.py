"""The two passes that train a view.

May import: guards, model.
"""
