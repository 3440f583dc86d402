"""Downloads, against a server that behaves badly."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dml_bench.data import fetch as fetching
from dml_bench.data.downloads import DOWNLOADS
from dml_bench.data.fetch import Download, fetch
from dml_bench.errors import DataError

DATA = np.random.default_rng(0).bytes(300_000)


class Handler(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012  emptied for each test
    dropped = 0

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        ranged = self.headers.get("Range")
        self.asked.append((self.path, ranged))
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        start = int(ranged[6:-1]) if ranged and self.path != "/plain" else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        body = b"x" * len(DATA) if self.path == "/wrong" else DATA[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path in ("/drops", "/plain") and Handler.dropped < 3:
            Handler.dropped += 1
            self.wfile.write(body[: 90_000 if self.path == "/drops" else 1000])
        elif self.path == "/stalls":
            self.wfile.write(body[:1000])
            self.wfile.flush()
            time.sleep(0.5)
        elif self.path != "/empty":
            self.wfile.write(body)


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "dropped", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def download(host, *paths, **more):
    sha = hashlib.sha256(DATA).hexdigest()
    return Download("set.zip", tuple(f"{host}/{path}" for path in paths), **({"sha256": sha} | more))


def test_a_file_is_fetched_checked_and_not_fetched_again(host, tmp_path):
    told = []
    path = fetch(download(host, "good"), tmp_path / "new", lambda *news: told.append(news))
    assert path == tmp_path / "new" / "set.zip"
    assert path.read_bytes() == DATA
    assert told[-1] == ("set.zip", len(DATA), len(DATA))
    fetch(download(host, "good"), tmp_path / "new")
    assert len(Handler.asked) == 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["set.zip"]


def test_a_dropped_connection_is_resumed_where_it_broke(host, tmp_path):
    assert fetch(download(host, "drops"), tmp_path).read_bytes() == DATA
    assert Handler.asked == [("/drops", r) for r in (None, "bytes=90000-", "bytes=180000-", "bytes=270000-")]


def test_a_server_without_ranges_starts_over(host, tmp_path):
    assert fetch(download(host, "plain"), tmp_path).read_bytes() == DATA
    assert Handler.asked[-1] == ("/plain", "bytes=1000-")


def test_what_an_earlier_call_left_is_resumed(host, tmp_path):
    (tmp_path / ".set.zip.part").write_bytes(DATA[:200_000])
    assert fetch(download(host, "good"), tmp_path).read_bytes() == DATA
    assert Handler.asked == [("/good", "bytes=200000-")]


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_whole_file_left_by_an_earlier_call_is_taken(host, tmp_path, size):
    (tmp_path / ".set.zip.part").write_bytes(DATA)
    assert fetch(download(host, "good", size=size), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("bad", ["gone", "wrong", "empty"])
def test_a_mirror_takes_over(host, tmp_path, bad):
    assert fetch(download(host, bad, "good"), tmp_path).read_bytes() == DATA
    assert Handler.asked[-1] == ("/good", None)


def test_redirections_are_followed(host, tmp_path):
    assert fetch(download(host, "moved"), tmp_path).read_bytes() == DATA


def test_silence_is_a_broken_connection(host, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    path = fetch(download(host, "stalls", "good"), tmp_path, timeout=0.1)
    assert path.read_bytes() == DATA


def test_every_host_that_failed_is_named_and_nothing_takes_the_name(host, tmp_path):
    urls = ("http://127.0.0.1:9/x", f"{host}/gone", f"{host}/wrong")
    wanted = Download("set.zip", urls, md5=hashlib.md5(DATA).hexdigest())
    with pytest.raises(DataError, match=r"set\.zip: no host gave the right file:\n.*9/x: .*\n.*HTTP 404.*\n.*the md5"):
        fetch(wanted, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_size_is_refused(host, tmp_path):
    with pytest.raises(DataError, match=r"has 300,000 bytes, not 299,999"):
        fetch(download(host, "good", size=299_999), tmp_path)


def test_another_file_of_that_name_is_left_alone(host, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"set\.zip: has the sha256 .*; move it away"):
        fetch(download(host, "good"), tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"mine"


def test_every_known_download_can_be_checked():
    for files in DOWNLOADS.values():
        for file in files:
            assert len(file.sha256) == 64 or len(file.md5) == 32
            assert file.urls


def test_the_real_garments_have_the_published_checksums(data_root):
    for file in DOWNLOADS["fashion_mnist"]:
        assert file.fault(data_root / "fashion_mnist" / file.name) == ""
