"""Downloads from a server on this machine that can break the connection, refuse ranges or serve the wrong file."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import __main__, download
from deft_lightning.data.dsprites import published, scream

CONTENT = np.random.default_rng(0).bytes(1_000_000)
PIECE = 16 * download._CHUNK
HASH = "md5:" + hashlib.md5(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/file"  # nothing listens on the discard port


class Server(ThreadingHTTPServer):
    """Serves `content`; breaks the connection after `limit` bytes of a body, `breaks` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.limit, self.breaks, self.ranges, self.status = CONTENT, PIECE, 0, True, 200
        self.requests: list[str | None] = []  # the Range header of each

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: server.limit]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server, path):
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT
    download.fetch([server.url], path, HASH)
    assert server.requests == [None]
    assert files(path) == ["file.bin"]


def test_an_interrupted_download_is_resumed(server, path):
    server.breaks = 2
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_the_next_run_resumes_a_download_that_was_given_up(server, path):
    server.breaks = 3
    with pytest.raises(DeftError, match="no connection"):
        download.fetch([server.url], path, HASH)
    assert [(path.parent / name).stat().st_size for name in files(path)] == [3 * PIECE]
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={3 * PIECE}-"
    assert files(path) == ["file.bin"]


def test_a_server_without_ranges_sends_the_whole_file_again(server, path):
    server.breaks, server.ranges = 1, False
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_a_partial_file_that_is_complete_or_too_long(server, path, size):
    path.parent.mkdir()
    part = f"file.bin.{hashlib.md5(server.url.encode()).hexdigest()[:8]}.part"
    (path.parent / part).write_bytes((CONTENT + b"extra")[:size])
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT


def test_the_next_mirror_is_asked_when_one_fails(server, path):
    assert download.fetch([NOWHERE, server.url], path, HASH).read_bytes() == CONTENT


def test_a_wrong_digest_is_one_sentence_and_leaves_nothing(server, path):
    server.content = CONTENT[::-1]
    with pytest.raises(DeftError, match=rf"its digest differs\): fetch {server.url} by hand and save it as {path}"):
        download.fetch([server.url], path, HASH)
    assert files(path) == []
    server.content = CONTENT
    assert download.fetch([server.url], path, HASH).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_is_one_sentence(server, path, status):
    server.status = status
    with pytest.raises(DeftError, match=f"the server answers {status}"):
        download.fetch([server.url], path, HASH)


def test_a_folder_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DeftError, match=r"file\.bin cannot be written \(.*taken is a file, not a folder\): .*root"):
        download.fetch([server.url], tmp_path / "taken" / "file.bin", HASH)


@pytest.mark.parametrize("name", ["dsprites", "scream"])
def test_no_network_is_one_sentence_and_a_failure(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "URLS", (NOWHERE, NOWHERE))
    monkeypatch.setattr(scream, "URL", NOWHERE)
    assert __main__.main(["prepare", name, "--root", str(tmp_path)]) == 1
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert message.startswith("error: ")
    assert f"cannot be downloaded (no connection): fetch {NOWHERE} by hand and save it as {tmp_path}" in message


def test_prepare_scream_downloads_the_painting(server, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (320, 400), "red").save(tmp_path / "red.jpg")
    server.content = (tmp_path / "red.jpg").read_bytes()
    monkeypatch.setattr(scream, "URL", server.url)
    assert __main__.main(["prepare", "scream", "--root", str(tmp_path / "root")]) == 0
    assert "The Scream is ready in" in capsys.readouterr().out
    assert (tmp_path / "root" / scream.FILE).read_bytes() == server.content
    assert __main__.main(["prepare", "scream", "--root", str(tmp_path / "root")]) == 0
    assert len(server.requests) == 1
    (tmp_path / "root" / scream.FILE).write_bytes(server.content[:500])  # damaged: downloaded again, and renamed
    assert __main__.main(["prepare", "scream", "--root", str(tmp_path / "root")]) == 0
    assert (tmp_path / "root" / scream.FILE).read_bytes() == server.content
    assert (tmp_path / "root" / f"{scream.FILE}.old").read_bytes() == server.content[:500]


def square() -> bytes:
    """A picture, but not of the painting."""
    stream = io.BytesIO()
    Image.new("RGB", (300, 300)).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"<html>try again later</html>", square()])
def test_an_error_page_or_another_picture_is_not_taken_for_the_painting(server, tmp_path, monkeypatch, content):
    server.content = content
    monkeypatch.setattr(scream, "URL", server.url)
    assert __main__.main(["prepare", "scream", "--root", str(tmp_path)]) == 1
    assert not (tmp_path / scream.FILE).exists()


def test_prepare_dsprites_checks_the_digest(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "URLS", (server.url,))
    assert __main__.main(["prepare", "dsprites", "--root", str(tmp_path)]) == 1
    assert "its digest differs" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
