"""Checks the installed extensions; each mistake is a sentence that names its package."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from taskbell.contracts import CATALOGUE, Contract, MailingDue, MailKind, Message, UserEvent
from taskbell.extensions.parts import OURS, PRIVILEGE, SERVICES, Extension, Grant, Handler, Installed, Listen
from taskbell.kinds import (
    INSTANT_PARAMETERS,
    WHAT_PARAMETERS,
    WHO_PARAMETERS,
    AssignedTasks,
    Kind,
    KindWords,
    NamedTask,
    Period,
    Statement,
)

RESERVED_CONSUMERS = frozenset({"scheduler", "app", "operator", "console", "setup", "taskbell", "amq", "reply"})
"""Our own roles and names, and the first words of RabbitMQ's own queues and of reply queues."""

CLOSED_SCHEMAS = ("taskbell", "information_schema")
"""Schemas in which nothing is granted to a package; schemas whose name begins with `pg_` are closed too."""

KEY_LIMIT = 200
"""Characters of a routing key; the name of a queue is the consumer's name and the routing key."""

LARGEST_BATCH = 1_000
"""Messages that a handler may get at once, at most."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}\Z")

Claim = tuple[str, str]
"""What is claimed, and its name."""


def is_closed(schema: str) -> bool:
    """True if nothing in that schema may be granted to a package."""
    return schema in CLOSED_SCHEMAS or schema.startswith("pg_")


def mistakes_in(found: Sequence[Installed]) -> Iterator[str]:
    """All mistakes, each in a sentence that names the package."""
    known = {**CATALOGUE} | {it.routing_key: it for package in found for it in package.extension.messages}
    for it in found:
        mistakes = (*_own_mistakes(it), *_of_listens(it.extension.listens, known))
        yield from (f"package {it.package}: {mistake}" for mistake in mistakes)
    for package, offered in Counter(it.package for it in found).items():
        if offered > 1:
            yield f"package {package} offers {offered} extensions: put them into one"
    yield from _clashes(found)


def _own_mistakes(it: Installed) -> Iterator[str]:
    extension = it.extension
    rows = {message.contract: message for message in extension.messages}
    for message in extension.messages:
        yield from _of_message(message, it.services)
        yield from _of_consumer(message, extension)
    for kind in extension.kinds:
        yield from _of_kind(kind, rows.get(kind.event))
    for handler in extension.handlers:
        yield from _of_handler(handler, rows.get(handler.contract))
    for grant in extension.grants:
        yield from _of_grant(grant, it.services)


def _of_message(message: Message, services: Sequence[str]) -> Iterator[str]:
    key, consumer = message.routing_key, message.consumer
    if not _KEY.match(key) or len(key) > KEY_LIMIT:
        yield f"{key!r} is not a routing key: two or more words of small letters, digits and _ with dots between them"
    if consumer is not None and (not _NAME.match(consumer) or consumer in RESERVED_CONSUMERS):
        yield f"message {key}: {consumer!r} cannot be a consumer"
    if message.kind == "command" and (consumer is None or not key.startswith(f"{consumer}.")):
        yield f"command {key}: the routing key of a command begins with the name of its consumer"
    publishers = ("notifier", "maintenance", *services)
    for role in message.published_by:
        if role not in publishers:
            yield f"message {key}: {role!r} cannot publish it; published_by names {_listed(publishers)}"


def _of_consumer(message: Message, extension: Extension) -> Iterator[str]:
    key, consumer = message.routing_key, message.consumer
    if consumer == "maintenance" and message.contract not in {it.contract for it in extension.handlers}:
        yield f"message {key} has consumer maintenance but no handler"
    if consumer == "notifier" and message.contract not in {it.event for it in extension.kinds}:
        yield f"message {key} has consumer notifier but no kind of mail whose event it is"


def _of_handler(handler: Handler, row: Message | None) -> Iterator[str]:
    name = handler.contract.__name__
    if row is None or row.consumer != "maintenance":
        yield f"the handler of {name} needs a message of that contract with consumer maintenance"
    if not 1 <= handler.batch <= LARGEST_BATCH:
        yield f"the handler of {name}: batch is 1 to {LARGEST_BATCH}, not {handler.batch}"


def _of_listens(listens: Iterable[Listen], known: dict[str, Message]) -> Iterator[str]:
    for listen in listens:
        if not _NAME.match(listen.consumer) or listen.consumer in {*SERVICES, *RESERVED_CONSUMERS}:
            yield f"{listen.consumer!r} cannot listen: give the package's own service a name of its own"
        row = known.get(listen.routing_key)
        if row is None:
            yield f"{listen.consumer} listens to {listen.routing_key!r}, which is not a message"
        elif row.kind == "command":
            yield f"{listen.consumer} listens to {listen.routing_key}, which is a command: it has one consumer"


def _of_kind(kind: Kind, row: Message | None) -> Iterator[str]:
    name = f"kind of mail {kind.name!r}"
    if not _NAME.match(kind.name):
        yield f"{name}: a name is small letters, digits and _, 31 at most, and begins with a letter"
    if row is None or row.consumer != "notifier":
        yield f"{name}: its event {kind.event.__name__} needs a message of that contract with consumer notifier"
    if kind.expiry <= timedelta(0):
        yield f"{name}: its expiry is {kind.expiry}, so no mail of it would be sent"
    if kind.unsubscribe not in (None, kind.name):
        yield f"{name}: its unsubscribe code is its name, or None"
    if kind.is_instant:
        if not issubclass(kind.event, UserEvent) or kind.period is not Period.KEY:
            yield f"{name}: a kind for the named user has a UserEvent as its event, and the period KEY"
        if not isinstance(kind.what, NamedTask | Statement):
            yield f"{name}: a kind for the named user says NamedTask() or a Statement"
    elif kind.is_planned:
        if not issubclass(kind.event, MailingDue) or kind.period not in (Period.DAY, Period.WEEK):
            yield f"{name}: a planned kind has a MailingDue as its event, and the period DAY or WEEK"
        if not isinstance(kind.what, AssignedTasks | Statement):
            yield f"{name}: a planned kind says AssignedTasks(…) or a Statement"
        if kind.who == ():
            yield f"{name}: it has no condition, so nobody would get it"
    else:
        yield f"{name}: a package's kind goes to users: conditions, a Statement, or NamedUser()"
    for mistake in (*_of_statements(kind), *_of_words(kind)):
        yield f"{name}: {mistake}"


def _of_statements(kind: Kind) -> Iterator[str]:
    told = INSTANT_PARAMETERS if kind.is_instant else WHAT_PARAMETERS
    for part, statement, known in (("who", kind.who, WHO_PARAMETERS), ("what", kind.what, told)):
        if not isinstance(statement, Statement):
            continue
        for name in sorted(statement.parameters - known):
            names = _listed([f":{it}" for it in sorted(known)])
            yield f"its `{part}` uses :{name}, but may use {names}; a colon that is none of them is written \\:"


def _of_words(kind: Kind) -> Iterator[str]:
    try:
        words = kind.words(lambda it: it)
    except Exception as error:  # noqa: BLE001 - whatever a package does wrong is told, with its name
        yield f"its words cannot be had: {type(error).__name__}: {error}"
        return
    if not isinstance(words, KindWords):
        yield f"its words are not KindWords but a {type(words).__name__}"
    elif kind.unsubscribe is not None and not (words.unsubscribe and words.unsubscribed):
        yield "one can unsubscribe from it, so its words need unsubscribe and unsubscribed"


def _of_grant(grant: Grant, services: Sequence[str]) -> Iterator[str]:
    roles = (*SERVICES, "operator", *services)
    if grant.role not in roles:
        yield f"{grant.role!r} cannot be granted anything; a grant names {_listed(roles)}"
    if not _TABLE.match(grant.table):
        yield f"{grant.table!r} is not a table: write app.NAME, or SCHEMA.NAME for a schema of the package's own"
    elif is_closed(grant.table.partition(".")[0]):
        yield f"a package cannot be granted anything on {grant.table}"
    if not grant.privileges:
        yield f"the grant on {grant.table} has no privileges"
    for privilege in grant.privileges:
        if not PRIVILEGE.match(privilege):
            yield (
                f"{privilege!r} is not a privilege: SELECT, INSERT, UPDATE or DELETE, the first three perhaps with "
                "(columns)"
            )


def _clashes(found: Sequence[Installed]) -> Iterator[str]:
    claims = dict.fromkeys(_our_claims(), OURS)
    for it in found:
        named: set[str] = set()
        for (what, name), count in Counter(_claims_of(it)).items():
            other = claims.setdefault((what, name), it.package)
            if other != it.package and not (what == "queue" and other in named):
                named.add(other)
                yield f"packages {other} and {it.package} both claim the {what} {name}: remove one of them"
            if count > 1:
                yield f"package {it.package} claims the {what} {name} {count} times"


def _our_claims() -> Iterator[Claim]:
    yield from _claims(CATALOGUE.values())
    yield from _queues(CATALOGUE.values(), (), SERVICES)
    yield from (("kind of mail", name.value) for name in MailKind)


def _claims_of(it: Installed) -> Iterator[Claim]:
    yield from (("service", service) for service in it.services)
    yield from _claims(it.extension.messages)
    for kind in it.extension.kinds:
        yield "kind of mail", kind.name
        yield "event of a kind of mail", _path(kind.event)
    yield from (("handler of", _path(handler.contract)) for handler in it.extension.handlers)
    # Queues come last: two services or messages of one name also have queues of one name, which is no further mistake.
    yield from _queues(it.extension.messages, it.extension.listens, it.services)


def _claims(messages: Iterable[Message]) -> Iterator[Claim]:
    for message in messages:
        yield "message", message.routing_key
        yield "contract", _path(message.contract)


def _queues(messages: Iterable[Message], listens: Iterable[Listen], services: Iterable[str]) -> Iterator[Claim]:
    named = [*(it.queue for it in messages), *(it.queue for it in listens), *(f"{it}.dead" for it in services)]
    yield from (("queue", queue) for queue in named if queue is not None)


def _path(contract: type[Contract]) -> str:
    return f"{contract.__module__}.{contract.__qualname__}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
