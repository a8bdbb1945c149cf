"""Downloads with pooch: several mirrors, known digests, gone on with after an interruption."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # per address, each going on where the last one broke off
_TIMEOUT = (10, 30)  # seconds to connect, and without a byte
_CHUNK = 1 << 14  # bytes: what is lost at most when a connection breaks
_HEADERS = {
    "User-Agent": "deft-lightning",
    "Accept-Encoding": "identity",
}  # Wikimedia refuses nameless clients


def fetch(urls: Sequence[str], path: Path, known_hash: str | None = None) -> Path:
    """Download one file to `path` from the first of `urls` that has it; nothing happens when it is there.

    `known_hash` is "md5:..." or the like; a file that differs is thrown away. What an interrupted download
    got is kept beside `path` and gone on with. Raises DeftError when no address works, with the address and
    the place to put the file by hand, and when the folder cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    with cache.lock(path):  # two processes would write into one part
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
                f"cannot write the download {path}: {error.strerror or error}; free some space or choose "
                "another folder with data.root"
            ) from error
        log.info("%s: %s", url, reasons[-1])
    raise DeftError(f"cannot download {path.name} ({reasons[0]}): fetch {urls[0]} by hand and save it as {path}")


class ResumingDownloader:
    """A downloader for pooch that keeps a broken-off download and asks the server for the rest of it.

    pooch's own downloader begins anew every time. The part is kept beside `path`, one for each address.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` to `output_file`; raises requests.RequestException when the network fails."""
        name = f"{self.path.name}.{hashlib.md5(url.encode()).hexdigest()[:8]}.part"
        part = self.path.with_name(name)
        for attempt in range(_ATTEMPTS):
            try:
                _go_on(url, part)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1:
                    raise
        os.replace(part, output_file)


def _go_on(url: str, part: Path) -> None:
    """Append to `part` what is missing of it; begin anew where the server cannot go on."""
    have = part.stat().st_size if part.exists() else 0
    headers = _HEADERS | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # it was complete
            part.unlink()
            raise requests.ConnectionError("the part on disk is longer than the file")
        response.raise_for_status()
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and not goes_on:
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        description = f"Downloading {url.rpartition('/')[2][:40]}"
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(desc=description, initial=have, total=total, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(_CHUNK):
                bar.update(file.write(chunk))


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
