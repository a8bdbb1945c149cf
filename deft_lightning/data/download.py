"""Downloads with pooch: several mirrors, checked digests, resumed after an interruption."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch
import requests

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.progress import progress_bar

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # for each address; each attempt resumes the last one
_TIMEOUT = (10, 30)  # seconds to connect, and to wait for the next bytes
_CHUNK = 1 << 14  # bytes; at most this much is lost when a connection breaks
_HEADERS = {
    "User-Agent": "deft-lightning",  # Wikimedia refuses clients without a name
    "Accept-Encoding": "identity",
}


def fetch(urls: Sequence[str], path: Path, known_hash: str | None = None) -> Path:
    """Download one file to `path` from the first of `urls` that has it; does nothing when `path` exists.

    `known_hash` is "md5:..." or the like; a file with another digest is deleted. An interrupted download stays beside
    `path` and is resumed. Raises `DeftError` when no address works, with the address and the path to save the file to
    by hand, and when the folder cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    with cache.lock(path):  # so that two processes do not write to the same partial file
        return _fetch(urls, path, known_hash)


def _fetch(urls: Sequence[str], path: Path, known_hash: str | None) -> Path:
    reasons = []
    for url in urls:
        try:
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=ResumingDownloader(path))
            return path
        except requests.RequestException as error:
            reasons.append(_reason(error))
        except ValueError:  # pooch: the digest does not match
            reasons.append("the file there is not the published one: its digest differs")
        except OSError as error:
            raise DeftError(
                f"{path} cannot be written ({error.strerror or error}): free some space, or choose another folder with "
                "data.root."
            ) from error
        log.info("%s: %s.", url, reasons[-1])
    raise DeftError(f"{path.name} cannot be downloaded ({reasons[0]}): fetch {urls[0]} by hand and save it as {path}.")


class ResumingDownloader:
    """A downloader for pooch that keeps an interrupted download and asks the server for the rest of it.

    pooch's own downloader always starts from scratch. The partial file is beside `path`, one for each address.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` to `output_file`; raises `requests.RequestException` when the network fails."""
        name = f"{self.path.name}.{hashlib.md5(url.encode()).hexdigest()[:8]}.part"
        part = self.path.with_name(name)
        for attempt in range(_ATTEMPTS):
            try:
                _resume(url, part)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1:
                    raise
        os.replace(part, output_file)  # pooch's temporary file, which it renames once the digest is checked


def _resume(url: str, part: Path) -> None:
    """Append what `part` lacks, or start from scratch where the server cannot resume."""
    start = part.stat().st_size if part.exists() else 0
    headers = _HEADERS | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return  # it is complete
            part.unlink()
            raise requests.ConnectionError("the partial file is longer than the file")
        response.raise_for_status()
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else (start + int(length)) / 1e6
        description = f"Downloading {url.rpartition('/')[2][:40]}"
        with (
            open(part, "ab" if start else "wb") as file,
            progress_bar(description, total, start / 1e6, unit="MB") as advance,
        ):
            for chunk in response.iter_content(_CHUNK):
                advance(file.write(chunk) / 1e6)


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
