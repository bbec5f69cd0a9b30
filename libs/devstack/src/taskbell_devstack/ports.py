"""Finds free ports on the loopback address."""

import random
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
# Below the range that systems use for outgoing connections (from 32768), so that no client can take a port between our
# check and the server's start; and below Kubernetes' node ports (from 30000).
RANGE = range(20_000, 30_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as candidate:
        # Servers set this, too. Without it, a port would look taken because of connections that have just ended.
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
    """A random port that is free and not among `besides`. Random, so that stacks that start together rarely collide."""
    for port in random.sample(RANGE, k=len(RANGE)):
        if port not in besides and is_free(port):
            return port
    raise OSError(f"No free port from {RANGE.start} to {RANGE.stop - 1} on {LOOPBACK}")
