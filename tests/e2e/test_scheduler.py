"""From the schedule to the inbox, with nobody publishing by hand."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.installation import Installation

MINUTE = timedelta(minutes=1)
EVERY_MINUTE = """
[[schedule]]
name = "alerts"
cron = "* * * * *"
timezone = "UTC"
publish = "overdue.due"
catch_up = "1h"
description = "Overdue alerts, very eagerly"
"""


async def test_what_falls_due_is_published_and_mailed_and_said_once(
    empty_installation: Installation, tmp_path: Path
) -> None:
    installation = empty_installation
    now = datetime.now(UTC)
    await installation.insert("users", [{"id": 1, "name": "Ada", "email": "ada@example.org", "is_active": True}])
    due = {"due_date": now - timedelta(days=1), "status": "pending", "priority": "medium"}
    await installation.insert("tasks", [{"id": 7, "title": "Write the report", "assignee_id": 1, **due}])
    # As if a scheduler had last looked five minutes ago: the newest minute is caught up, the others are recorded.
    state = {"schedule": "alerts", "zone": "UTC", "cron": "* * * * *", "position": now - timedelta(minutes=5)}
    await installation.insert("taskbell.schedule_state", [state])
    schedules = tmp_path / "schedules.toml"
    schedules.write_text(EVERY_MINUTE)

    await installation.start(SCHEDULES_FILE=str(schedules))

    (mail,) = await installation.inbox.wait_for(1)
    assert mail.recipient == "ada@example.org"
    assert "Write the report" in str(mail.message["subject"])
    await installation.stop()
    occurrences = await installation.rows("SELECT at, status FROM taskbell.occurrence ORDER BY at")
    first = (now - timedelta(minutes=4)).replace(second=0, microsecond=0)
    assert [it["at"] for it in occurrences] == [first + number * MINUTE for number in range(len(occurrences))]
    # Those of the past but the newest were missed; what fell due since the start, if anything, was published too.
    assert re.fullmatch("(missed ){4,}(published )+", "".join(f"{it['status']} " for it in occurrences))
    # However many were published: the ledger gives one mail a day.
    assert len(installation.inbox.mails) == 1
