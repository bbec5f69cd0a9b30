"""The mail server is away, slow, or does not let us in: mail waits, nothing is used up, and all else goes on."""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.chaos.support.figures import Figures
from tests.chaos.support.mail_scenario import COMMANDS, EVENTS, MailScenario, mail_scenario
from tests.chaos.support.plan import Plan
from tests.chaos.test_smtp_table import SENT, TIMEOUT
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

PROBE = 30.0
"""Seconds between two looks at whether a configuration fault has been mended."""

TROUBLES: dict[str, dict[str, Any]] = {
    # what the server does at CONNECT
    "one byte a second": {"bytes_per_second": 1.0},
    "down": {"drop": True, "reset": True},
    "overloaded": {"reply": "421 4.3.2 too many connections", "drop": True},
}


async def readiness(scenario: MailScenario) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{scenario.installation.url('notifier')}/readyz")
        return answer.status_code, answer.json()


async def metric(scenario: MailScenario, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{scenario.installation.url('notifier')}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split(" ")[1])


async def paused(scenario: MailScenario) -> dict[str, Any]:
    """Waits until sending is paused, as readiness and metric must say it; what readiness says of SMTP."""

    async def look() -> dict[str, Any]:
        scenario.installation.check_running()
        status, body = await readiness(scenario)
        assert status == 200, body
        assert body["status"] == body["parts"]["smtp"]["state"] == "degraded", body
        assert await metric(scenario, "taskbell_smtp_sending") == 0
        return dict(body["parts"]["smtp"])

    return await eventually(look, limit=60)


async def resumed(scenario: MailScenario) -> None:
    """Waits until all is well again."""

    async def look() -> bool:
        status, body = await readiness(scenario)
        assert (status, body["status"]) == (200, "ready"), body
        return await metric(scenario, "taskbell_smtp_sending") == 1

    await eventually(look, limit=60)


async def all_else_goes_on(scenario: MailScenario, times: int) -> None:
    """Every other queue of both services is worked on, as it was so many times before, less one."""
    installation = scenario.installation
    await installation.rows("TRUNCATE taskbell.command")
    (task,) = await installation.rows("SELECT min(id) AS id FROM tasks")
    body = {"task_id": task["id"], "new_status": "in_progress" if times % 2 else "pending"}
    assert await installation.management.publish(COMMANDS, "maintenance.update_task_status", body)
    assert await installation.management.publish(COMMANDS, "maintenance.cleanup_completed_tasks", {"dry_run": True})
    assert await installation.management.publish(
        COMMANDS, "maintenance.generate_task_report", {}
    )  # and report.generated
    assert await installation.management.publish(COMMANDS, "notifier.send_test_mail", {"to": "ops@example.org"})
    for key in ("reminder.due", "weekly.due"):
        assert await installation.management.publish(EVENTS, key, {"user_ids": []})

    async def look() -> bool:
        installation.check_running()
        commands = await installation.rows(
            "SELECT routing_key, state FROM taskbell.command WHERE routing_key <> 'notifier.send_test_mail'"
        )
        assert {row["routing_key"]: row["state"] for row in commands} == {
            "maintenance.update_task_status": "done",
            "maintenance.cleanup_completed_tasks": "done",
            "maintenance.generate_task_report": "done",
        }
        # Its command ends when its mail does.
        assert await installation.value("SELECT count(*) FROM taskbell.awaited_command") >= 1
        mailings = await installation.rows("SELECT kind FROM taskbell.mailing WHERE planned_at IS NOT NULL")
        planned = Counter(row["kind"] for row in mailings)
        return planned == dict.fromkeys(("overdue", "reminder", "weekly", "report", "test"), times)

    await eventually(look)


async def nothing_used_up(scenario: MailScenario) -> None:
    """No open row was tried; a claim counts as a try until it is given back."""
    used = await scenario.installation.rows(
        "SELECT * FROM taskbell.delivery WHERE ended_at IS NULL AND attempts > 0 AND phase IS DISTINCT FROM 'envelope'"
    )
    assert used == []
    assert scenario.server.accepted == []


async def test_while_the_server_is_away_or_slow_mail_waits_untried_and_all_else_goes_on(
    database_url: str, vhost: Vhost, plan: Plan, seed: int, figures: Figures
) -> None:
    chosen = plan.pick(quick=[list(TROUBLES)[seed % len(TROUBLES)]], full=list(TROUBLES))
    async with mail_scenario(database_url, vhost) as scenario:
        await scenario.people("clerk")
        await scenario.start("notifier", "maintenance", MAIL_TIMEOUT=str(TIMEOUT))
        for number, trouble in enumerate(chosen):
            names = [f"{number}-{who}" for who in range(plan.pick(quick=30, full=200))]
            await scenario.people(*names)
            await scenario.drop_sessions()
            scenario.server.accepted.clear()
            scenario.server.rule("CONNECT", **TROUBLES[trouble])
            await scenario.mail(*names)
            said = await paused(scenario)
            assert said["detail"].startswith("connect: "), trouble
            await all_else_goes_on(scenario, number + 1)
            await nothing_used_up(scenario)
            await paused(scenario)
            scenario.server.clear()
            await resumed(scenario)
            await scenario.bring_forward(*names)
            await scenario.all_ended(names)
            assert await scenario.states(*names) == dict.fromkeys(names, SENT), trouble
            taken = scenario.taken()
            assert {name: taken[name] for name in names} == dict.fromkeys(names, 1), trouble
    figures.note("mail server away", "troubles from which sending resumed by itself", len(chosen))


@pytest.mark.parametrize("at", ["AUTH", "MAIL"])
async def test_a_refusal_that_somebody_must_mend_pauses_sending_and_uses_up_nothing(
    at: str, database_url: str, vhost: Vhost, plan: Plan, figures: Figures
) -> None:
    names = [f"person-{number}" for number in range(30)]
    right = {"MAIL_USERNAME": "taskbell", "MAIL_PASSWORD": "secret", "MAIL_TIMEOUT": str(TIMEOUT)}
    async with mail_scenario(database_url, vhost, users={"taskbell": "secret"}) as scenario:
        await scenario.people(*names)
        if at == "MAIL":
            scenario.server.rule("MAIL", reply="550 5.7.1 you may not send as that")
        await scenario.start(**right | ({"MAIL_PASSWORD": "wrong"} if at == "AUTH" else {}))
        await scenario.mail(*names)
        said = await paused(scenario)
        assert said["detail"].startswith("AUTH: 535 5.7.8" if at == "AUTH" else "MAIL: 550 5.7.1")

        async def given_back() -> bool:
            states = await scenario.states(*names)
            assert {(state, attempts) for state, attempts, _ in states.values()} == {("planned", 0)}, states
            return len(states) == len(names)

        await eventually(given_back)
        knocked = scenario.server.opened
        if at == "AUTH" and plan.full:
            # Mended at the server: the next look finds out.
            scenario.server.users = {"taskbell": "wrong"}
            await resumed_by_itself(scenario, figures)
        else:
            # Mended by the operator.
            await scenario.installation.stop("notifier")
            scenario.server.clear()
            await scenario.start(**right)
        assert knocked < 10, "a server that refuses us is asked by each session once, then every 30 s"
        await scenario.bring_forward(*names)
        await scenario.all_ended(names)
        assert await scenario.states(*names) == dict.fromkeys(names, SENT)
        assert scenario.taken() == dict.fromkeys(names, 1)


async def resumed_by_itself(scenario: MailScenario, figures: Figures) -> None:
    """Sending goes on; how long that took is noted."""
    before = await scenario.installation.value("SELECT clock_timestamp()")
    await resumed(scenario)
    took = await scenario.installation.value("SELECT clock_timestamp()") - before
    figures.note("configuration fault", "seconds from mended to resumed", took.total_seconds(), at_most=PROBE + 5)
