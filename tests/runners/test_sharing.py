"""Commands that share a folder of runs, are killed, run out of time and out of room: as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

RECIPE = """
name: small
dataset: digits
training:
  epochs: {epochs}
  sampler: {{name: pxk, classes_per_batch: 5, images_per_class: 8}}
evaluation: {{metrics: [recall@1]}}
references: false
seeds: [{seeds}]
grid:
  loss: [norm_softmax]
"""


def write(folder, epochs=2, seeds="0, 1, 2"):
    (folder / "small.yaml").write_text(RECIPE.format(epochs=epochs, seeds=seeds))


def start(*words, cwd, **options):
    command = [sys.executable, "-m", "dml_bench", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes)


def finish(process, timeout=200):
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def until(happens, what, seconds=100):
    deadline = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def begun(runs):
    """The hidden folders of runs that train."""
    return [path.parent for path in runs.glob(".work-*/progress.json") if '"epoch":' in path.read_text()]


def records(runs):
    return [json.loads(path.read_text()) for path in sorted(runs.glob("*/record.json"))]


def hidden(runs):
    return [path.name for path in runs.iterdir() if path.name.startswith(".") and not path.name.startswith(".plan")]


def test_two_commands_share_the_runs_of_a_folder(tmp_path):
    write(tmp_path, seeds="0, 1, 2")
    both = [start("run", "small.yaml", "-j", 1, cwd=tmp_path) for _ in range(2)]
    outs = [finish(process) for process in both]
    assert [code for code, _, _ in outs] == [0, 0]
    done = Counter(
        seed for _, out, _ in outs for seed, by in re.findall(r"\] .* seed (\d): recall@1 [\d.]+(.*)", out) if not by
    )
    assert done == {"0": 1, "1": 1, "2": 1}
    assert all("Report: " in out for _, out, _ in outs)
    assert [record["status"] for record in records(tmp_path / "runs/small")] == ["ok"] * 3
    assert hidden(tmp_path / "runs/small") == []


def test_what_a_killed_command_was_doing_is_done_by_the_other(tmp_path):
    write(tmp_path, epochs=40, seeds="0")
    runs = tmp_path / "runs/small"
    commands = {process.pid: process for process in (start("run", "small.yaml", cwd=tmp_path) for _ in range(2))}
    until(lambda: begun(runs), "the run")
    worker = json.loads(next(runs.glob(".lease-*")).read_text())["process"]["pid"]
    killed = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(killed, signal.SIGKILL)
    commands.pop(killed).communicate()
    (other,) = commands.values()
    code, out, _ = finish(other)
    assert (code, "Report: " in out) == (0, True)
    assert [(record["status"], record["attempts"]) for record in records(runs)] == [("ok", 2)]
    assert hidden(runs) == []


def test_a_run_that_takes_too_long_is_repeated_when_asked(tmp_path):
    write(tmp_path, epochs=20, seeds="0")
    code, out, _ = finish(start("run", "small.yaml", "--timeout", 0.3, cwd=tmp_path))
    assert (code, "FAILED: timed out: not done within 0.3 s" in out) == (1, True)
    (record,) = records(tmp_path / "runs/small")
    assert (record["status"], record["died"]) == ("failed", False)
    status = finish(start("status", "runs/small", cwd=tmp_path))
    assert "timed out: not done within 0.3 s" in status[1]
    for kind, todo in (("diverged", "done (failed): runs/small/"), ("timed-out,died", "would run: runs/small/")):
        assert todo in finish(start("run", "small.yaml", "--retry", kind, "--dry-run", cwd=tmp_path))[1]
    code, out, _ = finish(start("run", "small.yaml", "--retry", "failed", cwd=tmp_path))
    assert (code, "1 runs to do" in out) == (0, True)
    assert [(record["status"], record["attempts"]) for record in records(tmp_path / "runs/small")] == [("ok", 2)]
    assert hidden(tmp_path / "runs/small") == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own with little room, and what mounts it otherwise."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")

    mount("size=400k")
    yield disk, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_stops_the_grid_and_loses_nothing(tmp_path, small_disk):
    disk, remount = small_disk
    write(tmp_path)
    command = ("run", "small.yaml", "--out", disk / "runs", "-j", 1)
    code, out, err = finish(start(*command, cwd=tmp_path))
    assert (code, "the disk is full" in err, str(disk) in err) == (2, True, True), out + err
    before = {path: path.stat().st_mtime_ns for path in disk.glob("runs/*/record.json")}
    assert [record["status"] for record in records(disk / "runs")] == ["ok"] * len(before)
    assert len(before) < 3
    assert list((disk / "runs").glob(".lease-*")) == []
    remount("size=40m")
    code, out, err = finish(start(*command, cwd=tmp_path))
    assert code == 0, err
    assert [record["status"] for record in records(disk / "runs")] == ["ok"] * 3
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    remount("ro")
    code, out, err = finish(start(*command, "--force", cwd=tmp_path))
    assert (code, f"{disk}/runs: cannot write here: Read-only file system" in err) == (2, True)
