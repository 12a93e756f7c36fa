"""Settings of rows that a context holds already, changed for a test."""

from __future__ import annotations

from orthrus import Context, Sampling, Stop
from orthrus.batch.row_settings import RowSettings


def set_rows(context: Context, stop: Stop | None = None, sampling: Sampling | None = None) -> None:
    """Give all rows of a context other settings."""
    for row in context.rows:
        row.stop, row.sampling = stop or row.stop, sampling or row.sampling
    context.settings = RowSettings.of(context.rows, context.vocabulary_size, context.device)
