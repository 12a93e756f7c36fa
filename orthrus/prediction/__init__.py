"""Predicts how fast drafters will be, from what cycles cost and what is accepted; `orthrus predict` shows it."""
