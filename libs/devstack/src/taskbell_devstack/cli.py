"""`taskbell dev`: private servers for development, under `.dev/` of the checkout."""

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from taskbell_devstack.errors import NotReady
from taskbell_devstack.stack import Stack
from taskbell_devstack.status import Status, show

CLOSING = """
Every mail can be read on the inbox's web page (it fills within seconds). Publish more on RabbitMQ's web page, or with
`taskbell publish` after: eval "$(.venv/bin/taskbell dev env)". It all goes on running; `make down` stops it."""

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Private PostgreSQL, RabbitMQ and mail inbox for development, on free loopback ports.",
)

Directory = Annotated[
    Path | None,
    typer.Option(
        envvar="TASKBELL_DEV_DIRECTORY",
        help="Where the servers keep their files (default: .dev/ of the checkout).",
    ),
]


@commands.command()
def up(directory: Directory = None) -> None:
    """Start the servers that do not run yet, and print where they are."""
    stack = _stack(directory)
    stack.up()
    show(Status.of(stack), stack)


@commands.command()
def down(
    directory: Directory = None,
    remove_data: Annotated[bool, typer.Option("--remove-data", help="Also delete their data.")] = False,
) -> None:
    """Stop exactly what was started here, services included."""
    stack = _stack(directory)
    ran = len(stack.state.processes)
    stack.down(remove_data=remove_data)
    kept = "its data are deleted" if remove_data else f"its data stay in {stack.directory}"
    print(f"Stopped {ran} processes; {kept}" if ran else "Nothing ran here.")


@commands.command()
def status(
    directory: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; null is what does not run.")] = False,
) -> None:
    """Print every URL and login. Exit code 1 where a server does not run."""
    stack = _stack(directory)
    now = Status.of(stack)
    if as_json:
        print(now.model_dump_json(indent=2))
    elif stack.state.processes:
        show(now, stack)
    else:
        print("Nothing runs here. Start the servers with: taskbell dev up")
    if not now.servers_run:
        raise typer.Exit(1)


@commands.command()
def env(directory: Directory = None) -> None:
    """Print the settings of these servers for a shell: eval "$(taskbell dev env)" leads all of taskbell to them."""
    from taskbell_devstack.environment import environment

    now = Status.of(stack := _stack(directory))
    if not now.servers_run:
        raise NotReady("Not all servers run here. Start them with: taskbell dev up")
    settings = environment(stack.state)
    if (notifier := stack.state.services.get("notifier")) is not None:
        settings["PUBLIC_URL"] = notifier.url  # so that mails of one started by hand have links, too: to the demo's
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")
    # So that `taskbell` itself is found: its virtual environment need not be activated.
    print(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')


@commands.command()
def demo(
    directory: Directory = None,
    given: Annotated[
        bool,
        typer.Option(
            "--given",
            help="On the servers of DATABASE_URL and BROKER_URL, whose services run already, instead of private ones. "
            "Fills an empty database only; started again, it does nothing twice.",
        ),
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="With --given: once all has happened, go on until stopped, as a container.")
    ] = False,
) -> None:
    """Run everything with demo data: mailings, a report, a cleanup, a changed status. Leaves it running."""
    if stay and not given:
        raise typer.BadParameter("goes with --given", param_hint="--stay")
    if given:
        asyncio.run(_demo_on_given_servers(stay=stay))
        return
    from taskbell_devstack import demo, summary  # they bring the database's driver, which `status` can do without
    from taskbell_devstack.environment import REPORTS_GO_TO

    stack = _stack(directory)
    happened = asyncio.run(demo.run(stack, _say))
    now = Status.of(stack)
    asyncio.run(summary.show(happened, str(now.database_url), reports_go_to=REPORTS_GO_TO, taskbell="taskbell"))
    show(now, stack)
    print(CLOSING)


async def _demo_on_given_servers(*, stay: bool) -> None:
    from taskbell.settings import load
    from taskbell_devstack import given, summary

    servers = load(given.GivenServers)
    happened = await given.run(servers, _say)
    if happened is None:
        _say("All of the demo has happened here before; nothing was done again.")
    else:
        await summary.show(
            happened,
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
    """The checkout that we are in, or else the current folder."""
    here = Path.cwd()
    return next((it for it in (here, *here.parents) if (it / "libs" / "devstack").is_dir()), here)
