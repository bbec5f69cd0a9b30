"""The benchmark cases. `CASES` lists them in the order of docs/performance.md."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from benchmarks.cases import cleanup, commands, delays, first_mail, idle, mailing, planning, report, scheduler
from benchmarks.installation import Bench
from benchmarks.result import Result

Case = Callable[[Bench, str | None], Awaitable[Result]]
"""Takes the installation and the size of the data; None: the case's own size."""

CASES: Mapping[str, Case] = MappingProxyType(
    {
        "mailing": mailing.overdue,
        "one-notifier": mailing.one_notifier,
        "slow-smtp": mailing.slow_smtp,
        "commands": commands.commands,
        "cleanup": cleanup.cleanup,
        "report": report.report,
        "planning": planning.planning,
        "first-mail": first_mail.first_mail,
        "idle": idle.idle,
        "scheduler": scheduler.scheduler,
        "two-notifiers": mailing.two_notifiers,
        "commands-under-mailing": delays.commands_under_mailing,
    }
)
