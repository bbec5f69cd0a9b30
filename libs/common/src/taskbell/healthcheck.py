"""What a container's health check runs: asks this container's own `/readyz`, with nothing but the standard library."""

import http.client
import os
import sys

TIMEOUT = 3.0
"""Seconds."""


def main() -> int:
    """0 when the process in this container is ready, else 1 with the reason on standard error."""
    port = int(os.environ.get("HTTP_PORT", "8080"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(2000).decode("utf-8", "replace")
    except OSError as error:
        print(f"no answer on port {port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if response.status != http.client.OK:
        print(body, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
