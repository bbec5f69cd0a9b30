"""Installs Debian's packages of RabbitMQ and PostgreSQL without starting their own services."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from taskbell_devstack.errors import ProgramsMissing
from taskbell_devstack.programs import find_postgresql, find_rabbitmq

# Package scripts run this before they start a service; 101 means forbidden (Debian Policy Manual, 9.3.3.1).
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Put here by taskbell-devstack while it installs packages; may be deleted.\nexit 101\n"

HOW_TO_INSTALL = """\
{missing} not found.
  Debian, Ubuntu:  sudo apt-get install --no-install-recommends {packages}
                   (the services that they bring are not needed and may stay off)
  elsewhere:       {elsewhere}"""


def ensure(say: Callable[[str], None], *, policy: Path = POLICY) -> None:
    """Make sure that RabbitMQ and PostgreSQL are installed; install them if we are root on Debian.

    Raises ProgramsMissing, which names exactly what to install, if we are not root on Debian or if that fails.
    """
    packages = missing_packages()
    if not packages:
        return
    if not can_install():
        raise ProgramsMissing(how_to_install(packages))
    say(f"Installing {' and '.join(packages)} (their own services are kept from starting)")
    complaint = install(packages, policy=policy)
    if missing_packages():
        raise ProgramsMissing(f"{how_to_install(packages)}\napt-get could not install them:\n{complaint}")


def can_install() -> bool:
    """Whether we are root on Debian."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: list[str], *, policy: Path = POLICY) -> str:
    """Install Debian packages without starting their services; return apt-get's last lines if it fails, else ''."""
    with services_kept_from_starting(policy):
        # If an index cannot be fetched, old lists may do; if they do not, the installation reports what is missing.
        _apt_get("update")
        return _apt_get("install", "--yes", "--no-install-recommends", *packages)


def missing_packages() -> list[str]:
    """The Debian packages that must be installed; none if all programs are here."""
    missing = [] if find_rabbitmq() else ["rabbitmq-server"]
    return missing if find_postgresql() else [*missing, "postgresql"]


def how_to_install(packages: list[str]) -> str:
    """The message for somebody who has to install these packages by hand."""
    names = {"rabbitmq-server": "RabbitMQ", "postgresql": "PostgreSQL"}
    elsewhere = {
        "rabbitmq-server": "RabbitMQ 3.10 or newer, with `rabbitmq-server` and `epmd` on PATH",
        "postgresql": "PostgreSQL 13 or newer, with `postgres` beside `initdb` on PATH",
    }
    return HOW_TO_INSTALL.format(
        missing=" and ".join(names[it] for it in packages) + (" was" if len(packages) == 1 else " were"),
        packages=" ".join(packages),
        elsewhere="; ".join(elsewhere[it] for it in packages),
    )


@contextlib.contextmanager
def services_kept_from_starting(policy: Path) -> Iterator[None]:
    """Forbid the start of services while the block runs. A policy that somebody else has set is left unchanged."""
    if policy.exists() and policy.read_text() != POLICY_TEXT:
        yield
        return
    policy.write_text(POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)  # another stack that installed at the same time may have removed it


def _apt_get(*arguments: str) -> str:
    """Run apt-get without prompts, after any other run of it; return its last lines if it fails, else ''."""
    done = subprocess.run(
        ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else "\n".join(done.stdout.splitlines()[-10:])
