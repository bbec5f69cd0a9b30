"""Free ports."""

import socket

import pytest

from taskbell_devstack import ports
from taskbell_devstack.ports import answers, is_free, pick_free


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        assert answers(port)
    assert is_free(port)
    assert not answers(port)


def test_a_picked_port_is_none_of_those_already_given(monkeypatch: pytest.MonkeyPatch) -> None:
    only = pick_free()
    monkeypatch.setattr(ports, "RANGE", range(only, only + 1))
    assert pick_free() == only
    with pytest.raises(OSError, match="No free port"):
        pick_free(besides={only})


def test_it_says_so_when_no_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(ports, "RANGE", range(port, port + 1))
        with pytest.raises(OSError, match=f"No free port from {port} to {port}"):
            pick_free()
