"""Files of rows, .jsonl, .csv or .parquet: read a window at a time, handed on as they stand.

Into a file of its own kind a row goes as it is with the answer behind it: byte for byte or, in Parquet,
value for value. Into another kind it goes through a table. A Parquet file's table has the types of its
columns; that of a .csv or .jsonl has text alone, a JSON string as it reads and anything else as it is
spelt: any other type would make 7 of 007 and ...992 of 9007199254740993. What the other kind has no
room for is refused.
"""

from muxplm.rows.reading import Window, read
from muxplm.rows.writing import writer

KINDS = (".jsonl", ".csv", ".parquet")
__all__ = ["KINDS", "Window", "read", "writer"]
