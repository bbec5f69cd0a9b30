"""What aiormq raises when a connection is lost. There is no one word for it.

Depending on who noticed first it is an AMQPError, an OSError, a RuntimeError, a StopAsyncIteration or an error of its
codec; what was under way on a channel may also end with a CancelledError though nobody cancelled it, or with a bare
`Exception`, which is how aiormq 7.2 rejects when it knows no reason itself.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiormq
from pamqp.exceptions import PAMQPException

CONNECTION_ERRORS = (aiormq.exceptions.AMQPError, PAMQPException, OSError, RuntimeError, StopAsyncIteration)
"""To be caught around calls of aiormq, within `connection_errors_named`.

AMQPError also says that the broker refused something.
"""


def in_words(error: BaseException) -> str:
    """A loss in one line; where BROKER_URL is the likely reason, with what to look at in it."""
    said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if "Connection.OpenOk" in said:  # all that aiormq tells of what RabbitMQ answered instead
        return "the virtual host in BROKER_URL does not exist, or its user may not use it"
    if "Login was refused" in said:
        return f"{said.partition('. ')[0]}: check user and password in BROKER_URL"
    if "ACCESS_REFUSED" in said:
        return f"{said}: run `taskbell setup` for its rights, or name this service's own user in BROKER_URL"
    if "Name or service not known" in said:
        return f"{said}: check the host in BROKER_URL"
    if "Connect call failed" in said:
        return f"{said}: it does not run there, or BROKER_URL names another place"
    return said


@contextmanager
def connection_errors_named() -> Iterator[None]:
    """Turns the two words that no caller could tell from others' into one of CONNECTION_ERRORS.

    Raises:
        ConnectionError: the connection was lost; the task was not cancelled.
    """
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    try:
        yield
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > asked:
            raise  # somebody did cancel it: a time limit, or a service that stops
        raise ConnectionError("the connection was lost") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError("the connection was lost") from error
