"""Serves the page to this machine alone, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import socket
import webbrowser
from threading import Thread

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from deft_lightning.common.errors import DeftError

HOST = "127.0.0.1"


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection and one thread for many positions of a slider


def bind(app: Flask, port: int) -> BaseWSGIServer:
    """A server of `app` on `port` of the loopback interface, 0 for a free one.

    Raises `DeftError` when the port cannot be had.
    """
    if not 0 <= port <= 65535:
        raise DeftError(f"--port is {port}: give a number from 1 to 65535, or leave it out for a free one.")
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise DeftError(
            f"--port is {port}, which cannot be used ({os.strerror(error.errno or 0)}): give another, or leave it out "
            "for a free one."
        ) from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    with listener:  # the server has a descriptor of its own
        return make_server(HOST, listener.getsockname()[1], app, True, request_handler=_Handler, fd=listener.fileno())


def serve(server: BaseWSGIServer, browser: bool) -> None:
    """Print the address, open it in the browser, and answer until Ctrl-C."""
    address = f"http://{HOST}:{server.port}/"
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    if browser:
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # some browsers return only when closed
    server.serve_forever()  # returns at Ctrl-C
    print()
