"""Taking an address to serve on."""

import socket

import pytest

from taskbell.errors import SettingsError
from taskbell.http import HttpServer


@pytest.mark.parametrize("setting", ["HTTP_PORT", "PUBLIC_PORT"])
def test_an_address_in_use_is_refused_with_the_settings_that_give_it(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} .*: change HTTP_HOST or {setting}$"):
            HttpServer("127.0.0.1", port, [], setting=setting).bind()
