"""What aiormq raises when a connection is lost.

It has no one class for that. Depending on who noticed first, it is an AMQPError, an OSError, a RuntimeError, a
StopAsyncIteration or an error of the codec. What was under way on a channel may also end with a CancelledError though
nobody cancelled it, or with a bare `Exception`, which is how aiormq 7.2 rejects if it knows no reason itself.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiormq
from pamqp.exceptions import PAMQPException

CONNECTION_ERRORS = (aiormq.exceptions.AMQPError, PAMQPException, OSError, RuntimeError, StopAsyncIteration)
"""Catch these around calls of aiormq, within `connection_errors_named`.

An AMQPError may also say that the broker refused something.
"""


def in_words(error: BaseException) -> str:
    """A connection error in one line; if BROKER_URL is the likely reason, with what to check in it."""
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if "Connection.OpenOk" in text:  # this is all that aiormq passes on of RabbitMQ's refusal
        return "the virtual host in BROKER_URL does not exist, or its user may not use it"
    if "Login was refused" in text:
        return f"{text.partition('. ')[0]}: check user and password in BROKER_URL"
    if "ACCESS_REFUSED" in text:
        return f"{text}: run `taskbell setup` for its rights, or name this service's own user in BROKER_URL"
    if "Name or service not known" in text:
        return f"{text}: check the host in BROKER_URL"
    if "Connect call failed" in text:
        return f"{text}: it does not run there, or BROKER_URL names another place"
    return text


@contextmanager
def connection_errors_named() -> Iterator[None]:
    """Re-raises aiormq's bare Exception, and a CancelledError that nobody asked for, as ConnectionError.

    Raises:
        ConnectionError: the connection was lost; the task was not cancelled.
    """
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    try:
        yield
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > asked:
            raise  # somebody did cancel the task: a time limit, or a service that stops
        raise ConnectionError("the connection was lost") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError("the connection was lost") from error
