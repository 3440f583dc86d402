import subprocess
import sys


def test_files_and_cache_are_read_without_torch():
    modules = "dml_bench.data.cache, dml_bench.data.omniglot, dml_bench.data.glyphs"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
