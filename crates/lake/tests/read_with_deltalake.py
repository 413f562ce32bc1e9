"""Opens a table with the PyPI package `deltalake` and prints what it sees: row count, version, columns.

Usage: python read_with_deltalake.py PATH [EXPECTED_ROWS]
Exit code 1 if the row count is another one.
"""

import os
import sys

from deltalake import DeltaTable


def main() -> int:
    table = DeltaTable(sys.argv[1])
    data = table.to_pyarrow_table() if hasattr(table, "to_pyarrow_table") else table.to_pyarrow_dataset().to_table()
    print(f"rows {data.num_rows}")
    print(f"version {table.version()}")
    print(f"files {len(table.file_uris())}")
    print(f"partitioned by {table.metadata().partition_columns}")
    for field in data.schema:
        print(f"column {field.name}: {field.type}")
    print(f"first row {data.slice(0, 1).to_pylist()}")
    if len(sys.argv) > 2 and data.num_rows != int(sys.argv[2]):
        print(f"expected {sys.argv[2]} rows", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    # Arrow's native threads sometimes abort the interpreter on its way out, after everything was read and said
    # (apache/arrow#34314).
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
