"""The daily report: computes figures, stores one report for each date, and publishes the event that gets it mailed."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import GenerateTaskReport, ReportGenerated
from taskbell.database import Transaction
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_maintenance.dead_letters import DeadLetterQueues
from taskbell_maintenance.domain import report_date
from taskbell_maintenance.figures import Counted, DeadLetters, other_priorities_exist, report_body
from taskbell_maintenance.repository import reports

ReportCommand = Received[GenerateTaskReport]


class DailyReports:
    """The use case of `maintenance.generate_task_report`.

    Args:
        app: the quoted schema of the web app's tables.
        zone: the zone of TIMEZONE, in which a report's day begins and ends.
    """

    def __init__(
        self, commands: CommandLog, dead_letters: DeadLetterQueues, outbox: Outbox, *, app: str, zone: ZoneInfo
    ) -> None:
        self._commands = commands
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._app = app
        self._zone = zone
        self._log = logger("reports")

    async def generate(self, commands: Sequence[ReportCommand]) -> None:
        """Makes reports. Asks the broker before the transaction begins, so that no transaction waits for it."""
        dead_letters = await self._dead_letters.count()

        async def apply(transaction: Transaction, fresh: Sequence[ReportCommand]) -> Sequence[Outcome]:
            return [await self._generate(transaction, command, dead_letters) for command in fresh]

        await self._commands.run(commands, apply)

    async def _generate(self, transaction: Transaction, command: ReportCommand, dead_letters: DeadLetters) -> Outcome:
        now = await transaction.value("SELECT now()")
        at = command.body.occurrence or now
        day = report_date(command.body.date, at, now, self._zone)
        if day is None:
            today = now.astimezone(self._zone).date()
            return Outcome.rejected(f"the report's date has not come yet: today is {today} in {self._zone.key}")
        body = report_body(at, await self._count(transaction, at, dead_letters))
        await reports.store(transaction, day, at, body, command.message_id)
        correlation_id = command.envelope.correlation_id or command.message_id
        event = ReportGenerated(date=day, as_of=at)
        await self._outbox.add(transaction, [OutboxMessage(event, correlation_id=correlation_id)])
        transaction.after_commit(partial(self._log.info, "report.stored", date=day.isoformat(), tasks=body["tasks"]))
        return Outcome.done(date=day.isoformat(), as_of=at.isoformat(), tasks=body["tasks"], overdue=body["overdue"])

    async def _count(self, transaction: Transaction, at: datetime, dead_letters: DeadLetters) -> Counted:
        counts = await reports.counts(transaction, self._app, at)
        has_others = other_priorities_exist(counts.statuses)
        others = await reports.other_priorities(transaction, self._app) if has_others else ()
        oldest = await reports.oldest_overdue(transaction, self._app, at)
        projects = {row["project_id"] for row in counts.projects} | {task.project_id for task in oldest}
        names = await reports.project_names(transaction, self._app, sorted(projects - {None}))
        return Counted(
            tasks=counts.tasks,
            created=counts.created,
            statuses=counts.statuses,
            other_priorities=[(row.priority, row.tasks) for row in others],
            projects=counts.projects,
            projects_in_all=counts.projects_in_all,
            names=names,
            oldest=oldest,
            mails=await reports.mails(transaction, at),
            dead_letters=dead_letters,
        )
