"""dml_bench: a benchmark suite for deep metric learning losses."""

__version__ = "0.1.0"
