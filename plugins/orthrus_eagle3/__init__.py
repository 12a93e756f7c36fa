"""EAGLE-3: a layer that drafts token by token from what the target computed of the text before."""
