"""The daily report: figures, stored once a date, and the event that has it mailed."""

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
from taskbell_maintenance.repository.reports import Reports

Command = Received[GenerateTaskReport]


class DailyReports:
    """The use case of `maintenance.generate_task_report`.

    Args:
        zone: TIMEZONE, whose days reports are for.
    """

    def __init__(
        self, log: CommandLog, reports: Reports, dead_letters: DeadLetterQueues, outbox: Outbox, *, zone: ZoneInfo
    ) -> None:
        self._log = log
        self._reports = reports
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._zone = zone
        self._logger = logger("reports")

    async def generate(self, commands: Sequence[Command]) -> None:
        """Makes reports; the broker is asked before the transaction, which waits for nobody but the database."""
        dead_letters = await self._dead_letters.count()

        async def apply(transaction: Transaction, fresh: Sequence[Command]) -> Sequence[Outcome]:
            return [await self._generate(transaction, command, dead_letters) for command in fresh]

        await self._log.run(commands, apply)

    async def _generate(self, transaction: Transaction, command: Command, dead_letters: DeadLetters) -> Outcome:
        now = await transaction.value("SELECT now()")
        at = command.body.occurrence or now
        day = report_date(command.body.date, at, now, self._zone)
        if day is None:
            today = now.astimezone(self._zone).date()
            return Outcome.rejected(f"that day has not come yet: it is {today} in {self._zone.key}")
        body = report_body(at, await self._count(transaction, at, dead_letters))
        await self._reports.store(transaction, day, at, body, command.message_id)
        correlation_id = command.envelope.correlation_id or command.message_id
        event = ReportGenerated(date=day, as_of=at)
        await self._outbox.add(transaction, [OutboxMessage(event, correlation_id=correlation_id)])
        transaction.after_commit(partial(self._logger.info, "report.stored", date=day.isoformat(), tasks=body["tasks"]))
        return Outcome.done(date=day.isoformat(), as_of=at.isoformat(), tasks=body["tasks"], overdue=body["overdue"])

    async def _count(self, transaction: Transaction, at: datetime, dead_letters: DeadLetters) -> Counted:
        counts = await self._reports.counts(transaction, at)
        others = await self._reports.other_priorities(transaction) if other_priorities_exist(counts.statuses) else ()
        oldest = await self._reports.oldest_overdue(transaction, at)
        projects = {row["project_id"] for row in counts.projects} | {task.project_id for task in oldest}
        names = await self._reports.project_names(transaction, sorted(projects - {None}))
        return Counted(
            tasks=counts.tasks,
            created=counts.created,
            statuses=counts.statuses,
            other_priorities=[(row.priority, row.tasks) for row in others],
            projects=counts.projects,
            projects_in_all=counts.projects_in_all,
            names=names,
            oldest=oldest,
            mails=await self._reports.mails(transaction, at),
            dead_letters=dead_letters,
        )
