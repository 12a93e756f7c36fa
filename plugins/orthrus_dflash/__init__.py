"""DFlash: a small model drafts a block of masks in one pass from what the target computed of the text before it."""
