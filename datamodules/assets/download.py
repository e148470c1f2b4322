"""Download one file over HTTPS, with a limited wait, a limited size, and a progress bar on a terminal."""

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests
    from rich.progress import Progress

CONNECT_SECONDS = 5.0
"""Longest wait for an answer, including name look-up, all addresses of the host and redirects."""

_READ_SECONDS = 30
_CHUNK = 1 << 18


class DownloadError(Exception):
    """The download failed; the message says why."""


class NoAnswerError(DownloadError):
    """The host can't be reached, so a request for another file would only waste time."""


def download(url: str, target: Path, *, limit: int) -> None:
    """Download a file of at most `limit` bytes by HTTPS; after a failure `target` may hold a part of it.

    The transfer runs in its own thread. The connection timeout of an HTTP client applies to each address of a
    host separately, and not to the name look-up. Behind a firewall that drops packets, a mirror with eight
    addresses would need eight times as long to fail.

    Raises:
        DownloadError: The host refuses or cuts the transfer, or sends more than `limit`.
        NoAnswerError: The host doesn't answer.
        ValueError: The address is not HTTPS.
    """
    if not url.startswith("https://"):
        raise ValueError(f"address {url} must start with https://")
    _Transfer(url, target, limit).run()


class _Transfer:
    """A download, and the thread that runs it."""

    def __init__(self, url: str, target: Path, limit: int) -> None:
        self.url, self.target, self.limit = url, target, limit
        self.answered = threading.Event()  # set on a failure too
        self.abandoned = False
        self.error: Exception | None = None

    def run(self) -> None:
        import requests  # noqa: F401 (can take seconds on a busy machine, which must not count as waiting)

        thread = threading.Thread(target=self._receive, daemon=True)
        thread.start()
        if not self.answered.wait(CONNECT_SECONDS):
            self.abandoned = True
            raise NoAnswerError(f"no answer within {CONNECT_SECONDS:g} s")
        thread.join()
        if self.error is not None:
            raise self.error

    def _receive(self) -> None:
        import requests

        timeout = (CONNECT_SECONDS, _READ_SECONDS)
        try:
            with requests.get(self.url, stream=True, timeout=timeout) as response:
                response.raise_for_status()
                self.answered.set()
                if not self.abandoned:
                    self._save(response)
        except requests.HTTPError as error:
            self.error = DownloadError(f"answers {str(error).split(' for url')[0]}")
        except (requests.ConnectionError, requests.Timeout) as error:
            kind = DownloadError if self.answered.is_set() else NoAnswerError
            self.error = kind(_root_cause(error))
        except (requests.RequestException, OSError) as error:
            self.error = DownloadError(_root_cause(error))
        except DownloadError as error:
            self.error = error
        finally:
            self.answered.set()

    def _save(self, response: "requests.Response") -> None:
        expected = int(response.headers.get("Content-Length", 0)) or None
        with self.target.open("wb") as file, _bar() as bar:
            task = bar.add_task(self.url.rsplit("/", 1)[-1], total=expected)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                if file.tell() > self.limit:
                    raise DownloadError(f"sends more than {self.limit} bytes, the largest size allowed")
                bar.update(task, completed=file.tell())


def _bar() -> "Progress":
    """Return a progress bar on stderr, which stays silent unless stderr is a terminal."""
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn())
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    return progress.Progress(*columns, progress.TransferSpeedColumn(), console=console)


def _root_cause(error: BaseException) -> str:
    """Return the innermost message, such as "Name or service not known", without the chain of wrappers."""
    while (inner := getattr(error, "reason", None) or (error.args[0] if error.args else None)) is not None:
        if not isinstance(inner, BaseException):
            break
        error = inner
    return str(error).rsplit(": ", 1)[-1] or type(error).__name__
