"""Downloads from a real server on this machine that answers, refuses, cuts, floods or stays silent."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datamodules.assets import download as download_module
from datamodules.assets.download import DownloadError, NoAnswerError, _Transfer, download

BODY = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.server.closing.wait()
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000] if self.path == "/cut" else BODY)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the handlers

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up, as some tests do."""


@pytest.fixture
def server() -> Iterator[str]:
    httpd = Server()
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.closing.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def receive(url: str, target: Path, limit: int = len(BODY)) -> None:
    """Call download() without its check for HTTPS, because the test server has no certificate."""
    _Transfer(url, target, limit).run()


def test_the_download_equals_the_file(server: str, tmp_path: Path) -> None:
    receive(f"{server}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_terminal_sees_a_bar(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receive(f"{server}/quiet", tmp_path / "file")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    receive(f"{server}/file.gz", tmp_path / "file")
    assert "file.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "limit", "message"),
    [
        ("/missing", 10**6, "answers 404"),
        ("/cut", 10**6, "bytes"),
        ("/file", 100_000, "sends more than 100000 bytes"),
    ],
)
def test_a_failed_download_is_reported(
    server: str, tmp_path: Path, path: str, limit: int, message: str
) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        receive(f"{server}{path}", tmp_path / "file", limit)
    assert not isinstance(caught.value, NoAnswerError), "the host is there, its other files may be right"


def test_a_silent_host_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "CONNECT_SECONDS", 0.2)
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.2 s"):
        receive(f"{server}/silent", tmp_path / "file")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_a_missing_host_differs_from_a_missing_file(host: str, tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as caught:
        receive(f"http://{host}/file", tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert "object at 0x" not in str(caught.value)


def test_only_https_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must start with https://"):
        download("http://example.org/file", tmp_path / "file", limit=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_a_full_disk_is_the_reason(server: str) -> None:
    with pytest.raises(DownloadError, match="No space left on device"):
        receive(f"{server}/file", Path("/dev/full"))
