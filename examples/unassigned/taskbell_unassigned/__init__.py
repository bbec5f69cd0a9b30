"""A mailing to the people of one team: the open tasks that nobody is assigned to."""

from datetime import datetime, timedelta
from typing import NamedTuple

from taskbell.extend import (
    Button,
    Extension,
    Gettext,
    Grant,
    Kind,
    KindWords,
    MailContext,
    MailingDue,
    MailText,
    Message,
    Period,
    Rows,
    Statement,
    Task,
    Text,
)


class UnassignedDue(MailingDue):
    """It is time to tell a team of the tasks that nobody is assigned to."""

    team: Text


WHO = Statement("""
    SELECT m.user_id FROM {app}.team_members AS m
    WHERE m.team = :event ->> 'team' AND m.user_id > :cursor AND m.user_id <= :last AND EXISTS (
        SELECT FROM {app}.tasks AS t WHERE t.assignee_id IS NULL AND t.status IN ('pending', 'in_progress'))
""")

WHAT = Statement("""
    SELECT m.user_id, t.*
    FROM {app}.team_members AS m
    CROSS JOIN (
        SELECT t.id, t.title, p.name AS project, t.status, t.priority, t.due_date, count(*) OVER () AS total
        FROM {app}.tasks AS t LEFT JOIN {app}.projects AS p ON p.id = t.project_id
        WHERE t.assignee_id IS NULL AND t.status IN ('pending', 'in_progress')
        ORDER BY t.due_date, t.id LIMIT 10
    ) AS t
    WHERE m.team = :event ->> 'team' AND m.user_id = ANY(:users)
    ORDER BY t.due_date, t.id
""")


class Props(NamedTuple):
    """What the templates see as `mail`."""

    tasks: tuple[object, ...]
    more: str
    more_url: str | None


def words(_: Gettext) -> KindWords:
    """What these mails are called."""
    return KindWords(
        title=_("Unassigned tasks"),
        reason=_("You get this mail because your team takes on tasks that nobody is assigned to."),
        unsubscribe=_("Unsubscribe from unassigned tasks"),
        unsubscribed=_("%(product)s sends you no more mails about unassigned tasks. You can close this page."),
    )


def compose(context: MailContext, rows: Rows) -> MailText:
    """The tasks that are due soonest, and how many there are besides."""
    tasks, total = [Task.of(row) for row in rows], rows[0]["total"]
    more = total - len(tasks)
    return MailText(
        subject=context.plural("%(n)s task is unassigned", "%(n)s tasks are unassigned", total),
        heading=context.gettext("Unassigned tasks"),
        lead=context.plural("Nobody has taken on this task yet.", "Nobody has taken on these tasks yet.", total),
        teasers=tuple(context.title(task) for task in tasks[:2]),
        button=Button(context.gettext("Open tasks"), context.app_url),
        props=Props(
            tasks=tuple(context.task_line(task) for task in tasks),
            more=context.plural("and %(n)s more", "and %(n)s more", more) if more else "",
            more_url=context.app_url,
        ),
    )


def sample(now: datetime) -> Rows:
    """Two tasks for `taskbell mail preview`."""
    soon = {"id": 1, "title": "Answer the auditors", "priority": "high", "due_date": now + timedelta(hours=5)}
    return ({**soon, "total": 2}, {"id": 2, "title": "Book the room", "project": "Office", "total": 2})


extension = Extension(
    messages=(
        Message(
            routing_key="unassigned.due",
            kind="event",
            contract=UnassignedDue,
            publishers="scheduler, or anyone",
            meaning="it is time to tell a team of the tasks that nobody is assigned to",
            consumer="notifier",
            by_anyone=True,
        ),
    ),
    kinds=(
        Kind(
            name="unassigned",
            event=UnassignedDue,
            who=WHO,
            what=WHAT,
            period=Period.DAY,
            expiry=timedelta(hours=12),
            words=words,
            compose=compose,
            sample=sample,
            unsubscribe="unassigned",
            package=__name__,
        ),
    ),
    grants=(
        Grant("notifier", "app.team_members", ("SELECT (user_id, team)",)),
        Grant("operator", "app.team_members", ("SELECT (user_id, team)",)),
    ),
)
