"""Ports on the loopback address."""

import random
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
# Below the range that systems hand out to outgoing connections (from 32768), so that no client of ours can take a port
# between our look and the server's start, and below Kubernetes' node ports (from 30000).
RANGE = range(20_000, 30_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as candidate:
        # As servers do, else connections that have just ended would make the port look taken.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return not answers(port)


def answers(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0


def pick_free(*, besides: Collection[int] = ()) -> int:
    """A port that is free now and not among `besides`, at random: stacks that start at once rarely meet."""
    for port in random.sample(RANGE, k=len(RANGE)):
        if port not in besides and is_free(port):
            return port
    raise OSError(f"No free port from {RANGE.start} to {RANGE.stop - 1} on {LOOPBACK}")
