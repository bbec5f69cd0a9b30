"""What a script says, and what the server remembers."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

POINTS = frozenset(
    {"CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "NOOP", "QUIT"}
)


@dataclass
class Rule:
    """What to do instead of the usual, where `at`, `recipient` and `connection` fit; the first that fits acts.

    Order of actions: wait for `delay` seconds; wait for `release()` if `hold`; write `reply`; close if `drop`.
    """

    at: str
    reply: str | None = None
    """Lines split by newlines, codes included ("250-one" + newline + "250 two"), without CRLF; None: the
    usual one, but no reply at all where `drop` is set. Empty text: no reply."""
    delay: float = 0.0
    hold: bool = False
    bytes_per_second: float | None = None
    """Writes the reply that slowly."""
    drop: bool = False
    """Closes the connection, after the reply if one is given."""
    reset: bool = False
    """Closes with RST instead of FIN."""
    accept: bool | None = None
    """At DOT: is the message taken? True: the moment it has come. False: never. None: if the reply is a 2xx,
    just before it is written; so not when the client leaves during a `hold` or the connection is dropped
    instead."""
    recipient: str | None = None
    """Only in a transaction whose RCPT names this address."""
    connection: int | None = None
    """Only on this connection, counted from 1."""
    after: int = 0
    """Lets so many pass first."""
    times: int | None = None
    """Acts so often at most; None: always."""
    chance: float = 1.0
    """Acts with this probability."""
    seen: int = field(default=0, init=False)
    """How often it has fitted so far."""
    released: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.at not in POINTS:
            msg = f"{self.at!r} is no point of an SMTP conversation; there are {', '.join(sorted(POINTS))}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Accepted:
    """A message that the server took."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    """As it came over the wire, dots still doubled, without the final dot."""
    message: bytes
    """As it was meant: dots as before."""
    connection: int


@dataclass
class Connection:
    """Everything that was said on one connection."""

    number: int
    transcript: list[tuple[Literal["client", "server"], bytes]] = field(default_factory=list)
    """Chunks in the order in which they were read or written; after STARTTLS decrypted."""
    verbs: list[str] = field(default_factory=list)
    encrypted: bool = False
    user: str | None = None
    closed: bool = False
    messages: int = 0
    """Messages that came whole."""

    @property
    def received(self) -> bytes:
        """All bytes that the client sent."""
        return b"".join(data for who, data in self.transcript if who == "client")
