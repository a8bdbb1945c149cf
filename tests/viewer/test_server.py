"""The server answers this machine alone, and the page needs nothing from elsewhere."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from deft_lightning import DeftError
from deft_lightning.viewer import page, serve
from deft_lightning.viewer.runs import Library, Run


@pytest.fixture
def client() -> FlaskClient:
    return page.application(Library({"run": Run(Path("run"), (1,))})).server.test_client()


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:80", 200), ("localhost:80", 200), ("example.org", 400)])
def test_requests_under_another_name_are_refused(client: FlaskClient, host: str, status: int) -> None:
    """A page elsewhere whose name is made to point here cannot read or use this one."""
    assert client.get("/", headers={"Host": host}).status_code == status


def test_the_page_names_nothing_elsewhere_and_the_browser_may_load_nothing_from_there(client: FlaskClient) -> None:
    answer = client.get("/", headers={"Host": "localhost"})
    assert not re.search(r"""(src|href)=["'](https?:)?//""", answer.text)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self' 'unsafe-inline';")
    scripts = re.findall(r'<script src="([^"]+)"', answer.text)
    assert scripts
    assert {client.get(script, headers={"Host": "localhost"}).status_code for script in scripts} == {200}


def test_the_server_listens_on_the_loopback_interface_alone(client: FlaskClient) -> None:
    server = serve.bind(client.application, 0)
    try:
        assert server.socket.getsockname() == ("127.0.0.1", server.port)
        assert server.port > 0
        with pytest.raises(
            DeftError, match=rf"--port is {server.port}, which cannot be used \(Address already in use\)"
        ):
            serve.bind(client.application, server.port)
    finally:
        server.server_close()
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # nothing else keeps the port


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_one_sentence(client: FlaskClient, port: int) -> None:
    with pytest.raises(DeftError, match=rf"--port is {port}: give a number from 1 to 65535"):
        serve.bind(client.application, port)
