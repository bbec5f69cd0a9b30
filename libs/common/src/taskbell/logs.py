"""Logs: an event slug and fields, as JSON lines or for a terminal. They never hold a body, an address or a token."""

import logging
import sys
from collections.abc import Iterator
from typing import Any, Literal, TextIO

import structlog


def configure(level: str, form: Literal["auto", "json", "console"], *, service: str) -> None:
    """Sets up structlog and the standard library's logging for this process, to standard error.

    To be called once in a process. Libraries' own records of WARNING and above get the same form.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_print_traceback)]
        if console
        else [_tracebacks(), structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                _with_service(service),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("taskbell").setLevel(level)
    # aiormq reports each lost connection at ERROR with a traceback; our own events report it in one line.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)


def _tracebacks() -> structlog.typing.Processor:
    return structlog.processors.ExceptionRenderer(_first_lines)


_transformed = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)


def _first_lines(exc_info: structlog.typing.ExcInfo) -> list[dict[str, Any]]:
    """Each error, the last first: no local variables, and only its first line.

    The other lines may hold bodies, addresses and passwords.
    """
    return _cut(_transformed(exc_info))


def _cut(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for each in errors:
        each["exc_value"] = each["exc_value"].partition("\n")[0]
        each["exc_notes"] = []
        for one in each["exceptions"]:  # of a group
            _cut(one)
    return errors


def _print_traceback(sio: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """The same for a terminal: the cause first, as Python prints it."""
    sio.write("\n".join(_printed(_first_lines(exc_info))))


def _printed(errors: list[dict[str, Any]], indent: str = "") -> Iterator[str]:
    for number, error in enumerate(reversed(errors)):
        if number:
            yield f"{indent}Then:"
        yield f"{indent}Traceback (most recent call last):"
        for frame in error["frames"]:
            yield f'{indent}  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
        yield f"{indent}{error['exc_type']}: {error['exc_value']}"
        for one in error["exceptions"]:
            yield from _printed(one, indent + "    ")


def _with_service(service: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("service", service)
        return event

    return add


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of Taskbell; `name` is the part that logs, such as `relay`."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(f"taskbell.{name}")
    return bound
