"""Decoding datasets with Ray Data: rows in, rows with answers out, resumable.

`decode` is the public function. `input_files` finds the rows, of `json_lines` or `parquet_rows`; `chunks` are what is
decoded, and written, whole or not at all: by `chunk_decoder` on actors, into files of `output`, which `manifest` names.

May import: cluster, failure, worker.
"""
