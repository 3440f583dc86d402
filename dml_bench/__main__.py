"""``python -m dml_bench`` is ``dml-bench``."""

from dml_bench.cli import main

main()
