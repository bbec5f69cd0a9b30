"""A container's health check: asks the container's own `/readyz`, using the standard library only."""

import http.client
import os
import sys

TIMEOUT = 3.0
"""Seconds to wait for the answer."""


def main() -> int:
    """Returns 0 if the process in this container is ready, else 1, with the reason on standard error."""
    port = int(os.environ.get("HTTP_PORT", "8080"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(2000).decode("utf-8", "replace")
    except OSError as error:
        print(f"no answer from http://127.0.0.1:{port}/readyz: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if response.status != http.client.OK:
        print(body, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
