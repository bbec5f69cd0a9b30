"""Makes a run of the tests independent of the shell that starts it, and of a `.env` in its folder.

A developer's shell has settings of other servers after `eval "$(taskbell dev env)"`. No test may read them, nor may a
process that a test starts.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

_EXAMPLE = Path(__file__).parents[2] / ".env.example"
_FAMILIES = re.compile(
    # Of packages, whose names nobody can list: kinds of mail, and the passwords of services.
    r"MAIL_\w+|\w+_(DATABASE|BROKER)_PASSWORD"
    # What drivers and servers read beside our settings.
    r"|PG[A-Z]+|RABBITMQ_\w+|ERL_\w+|SSL_CERT_(FILE|DIR)|NOTIFY_SOCKET|WATCHDOG_(USEC|PID)"
    # All servers of the tests are on this machine.
    r"|(HTTP|HTTPS|ALL|NO)_PROXY"
    r"|TASKBELL_DEV_DIRECTORY|COMPOSE_\w+"
    # What decides how a command prints its tables.
    r"|FORCE_COLOR|NO_COLOR|CLICOLOR_FORCE|COLUMNS|LINES"
)
# Images are what `make test-stack` is to test, as TEST_POSTGRES_IMAGE and its like are.
_KEPT = re.compile(r"\w+_IMAGE|PYTHON_DIGEST")


def known_settings() -> set[str]:
    """The variables of `.env.example`, which names every setting; another test keeps that true."""
    named = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", _EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name for name in named if not _KEPT.fullmatch(name)}


def forget_settings(environ: MutableMapping[str, str]) -> None:
    """Remove every setting from that environment, in whatever case it is written, also as `NAME_FILE`."""
    known = known_settings()
    for name in list(environ):
        setting = name.upper()
        if {setting, setting.removesuffix("_FILE")} & known or _FAMILIES.fullmatch(setting):
            del environ[name]


@contextlib.contextmanager
def away_from_dot_env() -> Iterator[None]:
    """Work in an empty folder if the current one has a `.env`, which the settings would be read from."""
    if not Path(".env").exists():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="taskbell-empty-") as folder, contextlib.chdir(folder):
        yield
