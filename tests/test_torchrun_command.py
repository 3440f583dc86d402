"""The command under torchrun: two processes make the runs of one, and the death of one leaves nothing half done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

RECIPE = """
name: pair
dataset: digits
loss: softtriple
references: false
training:
  epochs: 4
  freeze: [batch_norm]
  sampler: {name: pxk, classes_per_batch: 2, images_per_class: 12}
selection: {name: validation, folds: 2, metric: recall@1}
evaluation: {metrics: [recall@1]}
grid: {seed: [0, 1]}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "pair.yaml"
    path.write_text(RECIPE)
    return path


def start(recipe, out, ranks, *more):
    """Start the command in as many processes, its own session, so that a test can end all of it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "dml_bench", "run", str(recipe), "--out", str(out)]
    keep = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    keep["CUDA_VISIBLE_DEVICES"] = ""  # the device that is chosen is the CPU
    return subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=keep, start_new_session=True
    )


def finish(process):
    """Return the exit code and what was said."""
    try:
        said, _ = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, said


def records(out):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*-s*/record.json"))}


def test_two_ranks_publish_what_one_process_does_and_outlive_a_killed_rank(recipe, tmp_path):
    code, said = finish(start(recipe, tmp_path / "one", 1, "-j", "1"))
    assert code == 0, said

    process = start(recipe, tmp_path / "two", 2)
    wait_for(lambda: list((tmp_path / "two").glob(".work-*")), process)
    time.sleep(0.5)
    os.kill(rank_of(process, 1), signal.SIGKILL)
    begun = time.monotonic()
    code, said = finish(process)
    assert code != 0
    assert time.monotonic() - begun < 30
    assert all(record["status"] == "ok" for record in records(tmp_path / "two").values())

    code, said = finish(start(recipe, tmp_path / "two", 2))
    assert code == 0, said
    assert said.count("softtriple dim 64 seed 0: recall@1") <= 1  # rank 0 alone prints
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert one.keys() == two.keys()
    assert len(one) == 2
    for name, record in two.items():
        assert record["status"] == "ok"
        assert record["environment"]["ranks"] == 2
        assert one[name]["environment"]["ranks"] == 1
        losses = [[epoch["loss"] for epoch in part["curve"]] for part in (record, one[name])]
        assert losses[0] == pytest.approx(losses[1], rel=2e-2)  # of float32, which four epochs amplify
        assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-3)
        assert record["metrics"]["recall@1"] == pytest.approx(one[name]["metrics"]["recall@1"], abs=0.02)


def test_a_dry_run_and_a_mistake_end_all_ranks(recipe, tmp_path):
    code, said = finish(start(recipe, tmp_path / "dry", 2, "--dry-run"))
    assert code == 0, said
    assert said.count("would run") == 2
    code, said = finish(start(recipe, tmp_path / "wrong", 2, "--set", "loss.margn=1"))
    assert code != 0
    assert said.count("dml-bench: ") == 1
    assert "has no option 'margn'" in said


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def rank_of(process, rank):
    """Return the process id of a rank, by what torchrun told it; of Linux."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            told = (path.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == process.pid and f"RANK={rank}".encode() in told:
            return int(path.parent.name)
    raise AssertionError(f"there is no rank {rank}")
