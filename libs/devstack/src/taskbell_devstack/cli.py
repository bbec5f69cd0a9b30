"""`taskbell dev`: runs private servers for development, with their files under `.dev/` of the checkout."""

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from taskbell_devstack.errors import NotReady
from taskbell_devstack.stack import Stack
from taskbell_devstack.status import StackStatus, show

CLOSING = """
Read the mails on the inbox's web page (it fills within seconds). Publish more messages on RabbitMQ's web page, or with
`taskbell publish` after: eval "$(.venv/bin/taskbell dev env --role operator)". Everything goes on running; `make down`
stops it."""

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a private PostgreSQL, RabbitMQ and mail inbox for development, on free loopback ports.",
)

Directory = Annotated[
    Path | None,
    typer.Option(
        envvar="TASKBELL_DEV_DIRECTORY",
        help="The folder for the servers' files (default: .dev/ of the checkout).",
    ),
]


@commands.command()
def up(directory: Directory = None) -> None:
    """Start the servers that do not run yet, and print their URLs and logins."""
    stack = _stack(directory)
    stack.up()
    show(StackStatus.of(stack), stack)


@commands.command()
def down(
    directory: Directory = None,
    remove_data: Annotated[bool, typer.Option("--remove-data", help="Also delete the servers' data.")] = False,
) -> None:
    """Stop exactly the servers and services that were started here."""
    stack = _stack(directory)
    ran = len(stack.state.processes)
    stack.down(remove_data=remove_data)
    data = "deleted their data" if remove_data else f"their data stay in {stack.directory}"
    print(f"Stopped {ran} processes; {data}" if ran else f"Nothing runs in {stack.directory}.")


@commands.command()
def status(
    directory: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; null for what does not run.")] = False,
) -> None:
    """Print every URL and login. The exit code is 1 if a server does not run."""
    stack = _stack(directory)
    now = StackStatus.of(stack)
    if as_json:
        print(now.model_dump_json(indent=2))
    elif stack.state.processes:
        show(now, stack)
    else:
        print(f"Nothing runs in {stack.directory}. Start the servers with: taskbell dev up")
    if not now.servers_run:
        raise typer.Exit(1)


@commands.command()
def env(
    directory: Directory = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role",
            help="Only the settings of this role: operator for the command line, app, or a service. Without it, those "
            "of the administrator, whom `taskbell setup` needs.",
        ),
    ] = None,
) -> None:
    """Print the settings of these servers for a shell. After eval "$(taskbell dev env)" every command uses them."""
    from taskbell.setup.privileges import ROLES
    from taskbell_devstack.environment import environment, environment_of
    from taskbell_devstack.roles import require_role

    if role is not None and role not in ROLES:
        raise typer.BadParameter(f"must be one of {', '.join(ROLES)}, not {role!r}", param_hint="--role")

    now = StackStatus.of(stack := _stack(directory))
    if not now.servers_run:
        raise NotReady("Not all servers run. Start them with: taskbell dev up")
    every = environment(stack.state)
    settings = every
    if role is not None:
        asyncio.run(require_role(str(now.database_url), role))
        settings = environment_of(role, stack.state)
        # So that the administrator's logins do not stay in a shell that had them.
        for name in sorted({*every, "PUBLIC_URL"} - settings.keys()):
            print(f"unset {name}")
    if role in (None, "notifier") and (notifier := stack.state.services.get("notifier")) is not None:
        # So that mails of a notifier that is started by hand have links, too: those lead to the demo's notifier.
        settings["PUBLIC_URL"] = notifier.url
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")
    # So that the shell finds `taskbell` without activating its virtual environment.
    print(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')


@commands.command()
def demo(
    directory: Directory = None,
    given: Annotated[
        bool,
        typer.Option(
            "--given",
            help="Use the servers of DATABASE_URL and BROKER_URL, whose services already run, instead of private ones. "
            "Fills only an empty database, and does nothing twice if it is run again.",
        ),
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="With --given: when all is done, run until stopped, as containers should.")
    ] = False,
) -> None:
    """Run everything with demo data: mailings, a report, a cleanup, a changed status. Everything goes on running."""
    if stay and not given:
        raise typer.BadParameter("is only for use with --given", param_hint="--stay")
    if given:
        asyncio.run(_demo_on_given_servers(stay=stay))
        return
    from taskbell_devstack import demo, summary  # these import the database's driver, which `status` does not need
    from taskbell_devstack.environment import REPORTS_GO_TO

    stack = _stack(directory)
    outcomes = asyncio.run(demo.run(stack, _say))
    now = StackStatus.of(stack)
    asyncio.run(summary.show(outcomes, str(now.database_url), reports_go_to=REPORTS_GO_TO, taskbell="taskbell"))
    show(now, stack)
    print(CLOSING)


async def _demo_on_given_servers(*, stay: bool) -> None:
    from taskbell.settings import load
    from taskbell_devstack import given, summary

    servers = load(given.GivenServers)
    outcomes = await given.run(servers, _say)
    if outcomes is None:
        _say("The demo was already run on these servers; nothing was done again.")
    else:
        await summary.show(
            outcomes,
            servers.database_url.get_secret_value(),
            reports_go_to=servers.report_recipients,
            taskbell="docker compose run --rm operator",
        )
    if stay:
        await given.stay()


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _stack(directory: Path | None) -> Stack:
    return Stack(directory or _checkout() / ".dev", say=_say)


def _checkout() -> Path:
    """The checkout around the current folder, or else the current folder."""
    here = Path.cwd()
    return next((it for it in (here, *here.parents) if (it / "libs" / "devstack").is_dir()), here)
