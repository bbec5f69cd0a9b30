"""Tasks for the samples that `taskbell mail preview` shows."""

from datetime import datetime, timedelta

from taskbell.kinds import AssignedTasks, Found, Task
from taskbell_notifier.domain import found


def sample_tasks(now: datetime) -> tuple[Task, ...]:
    """Tasks of one person that give every kind something to say."""
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
    """What these tasks give to say."""
    content = found(what, sample_tasks(now), now)
    assert content is not None  # they have something for every kind
    return content
