"""PgBouncer in transaction mode in front of a database, as many put it before theirs.

It is the program's own package, which is installed where we are root on Debian.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from taskbell_devstack import packages
from taskbell_devstack.ports import LOOPBACK, answers, pick_free
from taskbell_devstack.processes import Account, as_account
from taskbell_devstack.waiting import wait_until

CONFIGURATION = """\
[databases]
{database} = host={host} port={server_port} user={user} password='{password}'
[pgbouncer]
listen_addr = {listen}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
"""


@cache
def program() -> str:
    """Where it is; skips the test where it is not and we may not install it."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which("pgbouncer", path=path)
    if found is None and packages.can_install():
        complaint = packages.install(["pgbouncer"])
        found = shutil.which("pgbouncer", path=path)
        assert found, f"apt-get could not install pgbouncer:\n{complaint}"
    if found is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    return found


@contextmanager
def pgbouncer(database_url: str, *, connections: int) -> Iterator[str]:
    """Runs one; yields the database's URL through it.

    Args:
        connections: to PostgreSQL, at most, for however many clients.
    """
    url = urlsplit(database_url)
    port = pick_free()
    folder = Path(tempfile.mkdtemp(prefix="taskbell-pgbouncer-"))
    folder.chmod(0o755)
    file = folder / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(
            database=url.path.removeprefix("/"),
            host=url.hostname,
            server_port=url.port or 5432,
            user=unquote(url.username or ""),
            password=unquote(url.password or "").replace("'", "''"),
            listen=LOOPBACK,
            port=port,
            connections=connections,
        )
    )
    with (folder / "log").open("wb") as log:
        # It refuses to be root.
        account = Account.named("nobody") if os.geteuid() == 0 else None
        process = subprocess.Popen([program(), "-q", file], stdout=log, stderr=log, **as_account(account))
    try:
        assert wait_until(lambda: answers(port), limit=30.0), (folder / "log").read_text()
        login, _, _ = url.netloc.rpartition("@")
        yield url._replace(netloc=f"{login}@{LOOPBACK}:{port}").geturl()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)
