"""The command `taskbell`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command, by default with the process's arguments, and exits with its status."""
    try:
        from taskbell.cli.root import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "taskbell":
            raise
        # A web app that needs only the client installs `taskbell` alone, and gets this command but not what it imports.
        print(
            "taskbell: this command needs more than the client: pip install 'taskbell[service]' "
            f"({error.name} is not installed)",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run(arguments))
