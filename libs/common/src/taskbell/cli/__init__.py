"""The command `taskbell`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command, with the process's arguments unless others are given, and ends with its exit status."""
    try:
        from taskbell.cli.root import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "taskbell":
            raise
        # A web app that only wants the client installs `taskbell` alone, and has this command all the same.
        print(
            "taskbell: this command needs more than the client: pip install 'taskbell[service]' "
            f"({error.name} is not installed)",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run(arguments))
