"""The sample tasks of `taskbell mail preview`."""

from datetime import datetime, timedelta

from taskbell.kinds import AssignedTasks, Found, Task
from taskbell_notifier.domain import found


def sample_tasks(now: datetime) -> tuple[Task, ...]:
    """Tasks of one user with which no kind of mail is empty."""
    samples = (
        ("Renew the certificate of the web server", "Platform", "in_progress", "urgent", -9),
        ("Answer the auditors", "Finance", "pending", "high", -2),
        ("Review the release notes", "Platform", "pending", "medium", 0),
        ("Book the room for the retrospective", None, "pending", "low", 3),
    )
    return tuple(
        Task(number, title, project, status, priority, now + timedelta(days=days, hours=5), None)
        for number, (title, project, status, priority, days) in enumerate(samples, 1)
    )


def sample(what: AssignedTasks, now: datetime) -> Found:
    """The lists and counts of the sample tasks."""
    content = found(what, sample_tasks(now), now)
    # The sample tasks leave no kind empty.
    assert content is not None
    return content
