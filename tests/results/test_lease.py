import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from dml_bench.errors import ResultsError, RunTaken
from dml_bench.results import lease as leases
from dml_bench.results.lease import STALE, Lease, holders, living
from dml_bench.results.process import Process, this_process
from dml_bench.results.store import publishing

RUN = "0123456789ab-s0"


def leave(folder, process, generation=1, age=0.0):
    """A lease that somebody else made, who gave a sign of life ``age`` seconds ago."""
    path = folder / f".lease-{RUN}-{generation}"
    path.write_text(json.dumps({"process": asdict(process), "token": f"{generation}"}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def somebody_elsewhere():
    return Process(pid=os.getpid(), host="far", place="another boot", started="1")


def somebody_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    started = replace(this_process(), pid=child.pid)
    child.wait()
    child.stdout.close()
    return started


def test_a_run_has_one_owner_and_leaves_no_file(tmp_path):
    with Lease(tmp_path, RUN), Lease(tmp_path, "0123456789ab-s1"):
        with pytest.raises(RunTaken, match=f"process {os.getpid()} on {socket.gethostname()}"), Lease(tmp_path, RUN):
            pass
        assert living(tmp_path)[RUN].process.pid == os.getpid()
    with Lease(tmp_path, RUN):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_owner_whose_process_is_gone_is_followed_at_once(tmp_path):
    leave(tmp_path, somebody_dead())
    assert living(tmp_path) == {}
    with Lease(tmp_path, RUN):
        assert holders(tmp_path)[RUN].generation == 2
    assert list(tmp_path.iterdir()) == []


def test_a_later_process_of_the_same_number_is_not_the_owner(tmp_path):
    leave(tmp_path, replace(this_process(), started="1"))
    with Lease(tmp_path, RUN):
        assert holders(tmp_path)[RUN].generation == 2


def test_a_zombie_is_gone(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    leave(tmp_path, replace(this_process(), pid=child.pid, started="1"))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert living(tmp_path) == {}
    child.wait()


@pytest.mark.parametrize("content", ["", None])
def test_an_owner_elsewhere_is_given_up_when_it_gives_no_sign_of_life(content, tmp_path):
    path = leave(tmp_path, somebody_elsewhere())
    if content is not None:  # killed before it could write who it is
        path.write_text(content)
    with pytest.raises(RunTaken), Lease(tmp_path, RUN):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    os.utime(path, (time.time() - STALE - 1, time.time() - STALE - 1))
    with Lease(tmp_path, RUN):
        assert holders(tmp_path)[RUN].generation == 2


def test_a_clock_that_goes_wrong_makes_nobody_stale(tmp_path, monkeypatch):
    leave(tmp_path, somebody_elsewhere())
    monkeypatch.setattr(time, "time", lambda: 1e10)
    with pytest.raises(RunTaken), Lease(tmp_path, RUN):
        pass


def test_an_owner_that_was_overtaken_stops_and_publishes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    with pytest.raises(RunTaken), Lease(tmp_path, RUN) as lease, publishing(tmp_path, RUN, lease):
        leave(tmp_path, somebody_elsewhere(), generation=2)  # as if this process had slept meanwhile
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lease.keep()
            time.sleep(0.01)
    with pytest.raises(RunTaken), Lease(tmp_path, "0123456789ab-s1") as lease, publishing(tmp_path, "x", lease):
        (tmp_path / ".lease-0123456789ab-s1-2").touch()  # not noticed before the end
    assert not (tmp_path / RUN).exists()
    assert not (tmp_path / "x").exists()
    assert holders(tmp_path)[RUN].process.host == "far"  # it is left alone


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    with Lease(tmp_path, RUN):
        (path,) = tmp_path.iterdir()
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_of_many_who_want_a_run_never_two_have_it(tmp_path):
    dead, inside, most, turns = somebody_dead(), [], [], []

    def worker():
        for _ in range(30):
            try:
                with Lease(tmp_path, RUN):
                    inside.append(1)
                    most.append(len(inside))
                    turns.append(1)
                    time.sleep(0.001)
                    inside.pop()
            except RunTaken:
                time.sleep(0.001)

    leave(tmp_path, dead, generation=7)
    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    said = "file/runs: cannot write here: Not a directory"
    with pytest.raises(ResultsError, match=said), Lease(tmp_path / "file" / "runs", RUN):
        pass
