"""The root of the command line. It loads only the group that is used, so that a command needs only its own imports."""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from taskbell.cli.packages import COMMANDS, offers
from taskbell.errors import CannotLoad, Mistake, OfferedTwice, SettingsError, TaskbellError
from taskbell.spelling import did_you_mean

OWN = ("commands", "messages", "publish", "run", "setup", "version")
"""Modules of this package that offer a command, each with its Typer object as `app`."""

Loaded = TyperCommand | TyperGroup


class Root(TyperGroup):
    """Our own commands, and the groups that installed packages offer."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in alphabetical order."""
        return sorted({*OWN, *offers(COMMANDS)})

    def get_command(self, ctx: Any, cmd_name: str) -> Loaded | None:
        """Loads one. What cannot be loaded, or is offered twice, is a command that says so."""
        if cmd_name in OWN:
            return _named(cmd_name, import_module(f"taskbell.cli.{cmd_name}").app)
        offer = offers(COMMANDS).get(cmd_name)
        if offer is None:
            return None
        try:
            return _named(cmd_name, offer.load())
        except (CannotLoad, OfferedTwice) as error:
            return _broken(cmd_name, error)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that was typed."""
        if args and not args[0].startswith("-") and args[0] not in OWN:
            known = self.list_commands(ctx)
            if args[0] not in known:
                ctx.fail(f"unknown command {args[0]!r}{did_you_mean(args[0], known) or '.'}")
        return super().resolve_command(ctx, args)


def run(arguments: Sequence[str] | None) -> int:
    """Runs the command; returns its exit status: 1 if it failed, 2 if it was used or set up wrongly."""
    root = get_group(
        typer.Typer(
            cls=Root,
            help="Taskbell: reminders, reports and cleanup for task-management apps.",
            no_args_is_help=True,
            rich_markup_mode=None,
        )
    )
    # It also logs the errors that it raises; we report them in one sentence.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        status = root.main(args=arguments, prog_name="taskbell", standalone_mode=True)
    except (SettingsError, Mistake) as error:
        print(f"taskbell: {error}", file=sys.stderr)
        return 2
    except TaskbellError as error:
        print(f"taskbell: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # for example, the disk is full that the output goes to
        what = f"{error.filename}: " if error.filename else ""
        print(f"taskbell: {what}{error.strerror or error}", file=sys.stderr)
        return 1
    return int(status or 0)


def _check_text(arguments: Sequence[str]) -> None:
    """Raises Mistake for arguments that are not UTF-8: neither JSON nor AMQP nor PostgreSQL accepts them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            msg = f"arguments must be UTF-8: {argument.encode('utf-8', 'replace').decode()!r} is not"
            raise Mistake(msg) from None


def _named(name: str, offered: typer.Typer) -> Loaded:
    """The command of this name if it is the only one in its module; else the module's commands as a group."""
    (only,) = offered.registered_commands if len(offered.registered_commands) == 1 else (None,)
    command = get_command(offered) if only and only.name == name else get_group(offered)
    assert isinstance(command, Loaded)  # Typer makes no others
    command.name = name
    return command


def _broken(name: str, error: TaskbellError) -> Loaded:
    app = typer.Typer(rich_markup_mode=None)

    @app.command(
        name,
        help=f"({error})",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def tell() -> None:
        raise error

    return _named(name, app)
