"""A real SMTP server whose every answer a test can script.

In a test:

    async with ScriptedSmtp() as server:                    # a free loopback port: server.port
        server.rule("RCPT", reply="550 5.1.1 no such user", recipient="bob@example.org")
        server.rule("DOT", drop=True, accept=True, times=1)  # takes the first message, but its reply is lost
        ...
        await server.until(lambda: len(server.accepted) == 2)
        assert server.accepted[0].message_id == "<1@example.org>"

The points at which a rule can act, in the order of a conversation: CONNECT (the greeting), EHLO, STARTTLS,
AUTH, MAIL, RCPT, DATA, BODY (the first line of the message has come), DOT (the whole message has come), RSET,
NOOP, QUIT.

As a process of its own, its script one JSON object (`{"rules": [{"at": "RCPT", "reply": "450 later"}],
"pipelining": true}`; SIGHUP reads it again), its log one JSON object a line:

    python -m tests.support.scripted_smtp --port 2525 --script script.json --log smtp.jsonl
"""

from tests.support.scripted_smtp.certificate import Certificate
from tests.support.scripted_smtp.records import Accepted, Connection, Rule
from tests.support.scripted_smtp.server import ScriptedSmtp

__all__ = ["Accepted", "Certificate", "Connection", "Rule", "ScriptedSmtp"]
