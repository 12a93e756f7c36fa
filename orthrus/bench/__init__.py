"""Measures decoders and baselines side by side; `orthrus bench` runs it, `orthrus report` shows what came out."""
