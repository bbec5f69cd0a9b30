"""The name that we give in EHLO: many relays hang up on an address, or on a name without a domain."""

import asyncio
import ipaddress
import re
import socket

from taskbell_notifier.addresses import ascii_domain

LOOKUP_SECONDS = 5.0
"""How long the host's full name is looked for, which may ask DNS."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_NOBODYS = re.compile(r"(?:.*\.)?(?:localhost|localdomain|arpa|local)\Z", re.IGNORECASE)
"""Names that every host has, or that a reverse lookup invents."""


def checked_name(name: str) -> str:
    """A configured name as EHLO gives it: a domain in another script in its ASCII form, without a dot at its end.

    Raises:
        ValueError: it is neither a host name nor an address in brackets (RFC 5321 §4.1.3).
    """
    name = name.strip()
    if name.startswith("[") and name.endswith("]"):
        try:
            return literal(ipaddress.ip_address(name[1:-1].removeprefix("IPv6:")))
        except ValueError:
            pass
    found = ascii_domain(name)
    if found is None or len(found) > 253 or not _NAME.match(found):
        msg = f"must be a host name such as app.example.org, or an address in brackets such as [192.0.2.1]: {name!r}"
        raise ValueError(msg)
    return found


def literal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The address in brackets, for a host without a name."""
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


class HostName:
    """The full name of this host, looked for once and without blocking the event loop."""

    def __init__(self) -> None:
        self._found: asyncio.Future[str | None] | None = None

    async def full(self) -> str | None:
        """The name with its domain; None: the host has none, or it could not be found in time."""
        if self._found is None:
            self._found = asyncio.ensure_future(_look())
        # It is shared by all sessions that are being opened; one that is given up must not end it for the others.
        return await asyncio.shield(self._found)


async def _look() -> str | None:
    name = socket.gethostname()
    if _is_full(name):
        return name
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            name = await asyncio.to_thread(socket.getfqdn, name)
    except (TimeoutError, OSError, UnicodeError):
        return None
    return name if _is_full(name) else None


def _is_full(name: str) -> bool:
    return "." in name and _NAME.match(name) is not None and not _NOBODYS.match(name)
