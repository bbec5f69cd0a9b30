"""kill -9 of everything, at random, while mail is delivered and statuses are changed."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from tests.chaos.support.app_tables import AppTables, every_status_changed_once, fresh_app_tables
from tests.chaos.support.comparison import compare
from tests.chaos.support.figures import Figures
from tests.chaos.support.own_servers import OwnServers, Server
from tests.chaos.support.plan import Plan
from tests.chaos.support.processes import Processes, ServiceProcess
from tests.chaos.support.sink import Sink, logged_sink
from tests.chaos.support.workload import environment
from tests.support.waiting import eventually

POOL = 8
KINDS = ("overdue", "reminder")
SCHEDULES = """
[[schedule]]
name = "overdue-alerts"
cron = "* * * * *"
timezone = "recipient"
publish = "overdue.due"

[[schedule]]
name = "reminders"
cron = "* * * * *"
timezone = "recipient"
publish = "reminder.due"
"""
"""Each minute the same mailings again: they find their period's rows, and so mail nobody twice."""

Target = Literal["notifier", "maintenance", "scheduler", "postgresql", "rabbitmq"]
QUICK: dict[Target, int] = {"notifier": 4, "maintenance": 1, "scheduler": 1, "rabbitmq": 1, "postgresql": 1}
FULL: dict[Target, int] = {"notifier": 52, "maintenance": 20, "scheduler": 20, "rabbitmq": 6, "postgresql": 6}
CUT_OFF_TWICE = "outcome unknown; resend: cut off after the data had begun"
SETTLES = 420.0  # seconds for the last lease to run out, and what it held to be sent


@dataclass
class Killer:
    """Kills what the list says, one after the other as the mailing goes on, and starts again what it killed."""

    own_servers: OwnServers
    processes: Processes
    tables: AppTables
    rng: random.Random
    done: Counter[Target] = field(default_factory=Counter)
    resends_seen: float = 0
    """By the metric, in each process as late as could be asked before it was killed."""
    left_in_data: list[set[int]] = field(default_factory=list)
    """After each kill of a notifier: rows in the data window."""
    _starting: list["asyncio.Task[None]"] = field(default_factory=list)

    async def kill(self, target: Target) -> None:
        """One process of that kind; returns while it is being started again."""
        if target in ("postgresql", "rabbitmq"):
            await self.settled()
            await asyncio.to_thread(self.own_servers.kill, cast(Server, target))
            self._start(self._bring_back(cast(Server, target)))
        else:
            candidates = self.processes.of(target)
            await eventually(lambda: any(it.ready for it in candidates), limit=200, what=f"a {target} to kill")
            process = self.rng.choice([it for it in candidates if it.ready])
            await self._ask(process)
            await process.kill()
            if target == "notifier":
                # What it leaves in the data window is among these; the other notifier's are there as well.
                in_data = await self.tables.insisting("SELECT id FROM taskbell.delivery WHERE phase = 'data'")
                self.left_in_data.append({row["id"] for row in in_data})
            self._start(process.start())
        self.done[target] += 1

    async def count_resends(self) -> None:
        """Asks all that run, before they are stopped."""
        for process in self.processes.of("notifier"):
            await self._ask(process)

    async def settled(self) -> None:
        """Until all that was killed runs again."""
        starting, self._starting = self._starting, []
        await asyncio.gather(*starting)

    def by_kill(self, resent: Iterable[int]) -> list[int]:
        """How many of these rows each kill of a notifier left in the data window; a row belongs to its first one.

        Raises:
            AssertionError: a row was sent again that no kill had left there.
        """
        counts = [0] * len(self.left_in_data)
        for row in resent:
            first = next((number for number, left in enumerate(self.left_in_data) if row in left), None)
            assert first is not None, f"row {row} was sent again, and no killed notifier had it in the data window"
            counts[first] += 1
        return counts

    async def _ask(self, process: ServiceProcess) -> None:
        if process.service == "notifier":
            self.resends_seen += await process.metric("taskbell_mail_resends_total")

    async def _bring_back(self, server: Server) -> None:
        await asyncio.sleep(self.rng.uniform(0, 2))  # how long it is away is part of the attack
        await self.own_servers.start(server)

    def _start(self, starting: Coroutine[Any, Any, None]) -> None:
        self._starting.append(asyncio.create_task(starting))


async def test_a_hundred_kills_lose_nothing_and_double_nothing(
    own_servers: OwnServers, plan: Plan, seed: int, figures: Figures, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    people, statuses = plan.pick(quick=250, full=5_000), plan.pick(quick=100, full=2_000)
    targets = [target for target, number in plan.pick(quick=QUICK, full=FULL).items() for _ in range(number)]
    rng.shuffle(targets)
    async with (
        fresh_app_tables(own_servers) as tables,
        logged_sink(tmp_path, seed=seed) as sink,
        processes_of(own_servers, tables, sink, tmp_path, plan) as processes,
    ):
        slow_down(sink, plan)
        await tables.people(people)
        tasks = await tables.tasks(statuses)
        events = await own_servers.management.listen("taskbell.events", "task.status_changed")
        await processes.start()
        killer = Killer(own_servers, processes, tables, rng)
        commands = asyncio.create_task(tables.start_work_on(tasks))
        for kind in KINDS:  # the first one at once; the scheduler follows at the full minute
            await tables.insisting(f"SELECT taskbell.enqueue('{kind}.due', '{{}}'::jsonb, 'first {kind}')")
        looking = asyncio.create_task(look_at_leases(tables)) if not plan.full else None
        await attack(killer, targets, sink, deliveries=len(KINDS) * people)
        during = sum(sink.taken().values()) < len(KINDS) * people
        await killer.settled()
        await commands
        if looking is not None:
            looking.cancel()
            await let_leases_run_out(tables, processes, killer)
        await eventually(lambda: nothing_is_left(tables, own_servers, people, statuses), limit=SETTLES, what="the end")
        await killer.count_resends()
        processes.check_running()
        await processes.stop()

        comparison = await compare(tables, sink, people=people, kinds=KINDS)
        said = f"SEED={seed}, {dict(killer.done)}: {dict(comparison.states)}, {len(comparison.doubled)} taken twice"
        print(said)
        comparison.check()
        assert set(comparison.states) <= {"sent", "failed"}, said
        # A second death in the data window is the one end but `sent`: there is no second resend.
        assert set(comparison.failures) <= {CUT_OFF_TWICE}, said
        assert set(comparison.doubled.values()) <= {2}, said
        worst = max(killer.by_kill(comparison.resent))
        assert worst <= 2 * POOL, said
        assert killer.resends_seen <= len(comparison.resent), said
        assert sum(killer.done.values()) == len(targets), said
        await every_status_changed_once(tables, own_servers, events, tasks)
        for queue in ("notifier.dead", "maintenance.dead"):
            assert (await own_servers.management.depth(queue)).ready == 0, said
        row = "kill -9 at random"
        figures.note(row, "kills", sum(killer.done.values()), at_least=plan.pick(quick=8, full=100))
        figures.note(row, "deliveries", sum(comparison.states.values()), at_least=plan.pick(quick=500, full=10_000))
        figures.note(row, "last kill before the last mail (1: yes)", during, at_least=plan.pick(quick=0, full=1))
        figures.note(row, "mails lost", len(comparison.lost) + len(comparison.missing), at_most=0)
        figures.note(row, "mails taken twice outside the data window", len(comparison.unexplained), at_most=0)
        figures.note(row, "mails taken twice inside it", len(comparison.doubled))
        figures.note(row, "rows whose one resend was cut off too, and that ended failed", comparison.states["failed"])
        figures.note(row, "resends a kill of a notifier, at most", worst, at_most=2 * POOL)
        figures.note(row, "resends", len(comparison.resent))
        figures.note(row, "resends that the metric missed", len(comparison.resent) - killer.resends_seen)


def slow_down(sink: Sink, plan: Plan) -> None:
    """Every step takes its time, so that kills hit all of them; some mails are taken well before the reply."""
    sink.server.rule("RCPT", delay=0.02, chance=0.5)
    sink.server.rule("DATA", delay=0.02, chance=0.5)
    sink.server.rule("DOT", delay=0.15, accept=True, chance=0.4)
    sink.server.rule("DOT", delay=0.1, chance=0.5)


def processes_of(own_servers: OwnServers, tables: AppTables, sink: Sink, folder: Path, plan: Plan) -> Processes:
    """Two of each service."""
    schedules = folder / "schedules.toml"
    schedules.write_text(SCHEDULES, encoding="utf-8")
    processes = Processes(
        environment(
            own_servers,
            tables,
            sink,
            MAIL_POOL_SIZE=str(POOL),
            MAIL_DATA_TIMEOUT="5",
            MAIL_LEASE_SECONDS=plan.pick(quick="5", full="20"),
            SCHEDULES_FILE=str(schedules),
        )
    )
    for service in ("scheduler", "notifier", "maintenance"):
        processes.add(service, 2)
    return processes


async def attack(killer: Killer, targets: list[Target], sink: Sink, *, deliveries: int) -> None:
    """Spreads the kills over the mailing: the next one when so many more mails have been taken."""
    for number, target in enumerate(targets, 1):
        share = deliveries * number // (len(targets) + 2)
        await eventually(lambda: sum(sink.taken().values()) >= share, limit=300, what=f"{share} mails")  # noqa: B023
        await killer.kill(target)


async def look_at_leases(tables: AppTables) -> None:
    """Has sweepers look at rows as soon as their lease is over; a look at each two minutes after its planning suits
    longer runs, and changes nothing about what is then found."""
    while True:
        await tables.insisting(
            "UPDATE taskbell.delivery SET due_at = lease_until WHERE state = 'sending' AND due_at > lease_until"
        )
        await asyncio.sleep(1)


async def let_leases_run_out(tables: AppTables, processes: Processes, killer: Killer) -> None:
    """Instead of waiting for them: nothing runs, so whoever held one is gone, and then their time is over."""
    await killer.count_resends()
    await processes.stop()
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now(), due_at = now() WHERE state = 'sending'")
    await processes.start()


async def nothing_is_left(tables: AppTables, own_servers: OwnServers, people: int, statuses: int) -> bool:
    """All rows are there and have ended, all is published, all commands are done."""
    assert await tables.number("SELECT count(*) FROM taskbell.delivery") >= len(KINDS) * people
    assert await tables.open_deliveries() == 0
    assert await tables.number("SELECT count(*) FROM taskbell.command WHERE state = 'done'") == statuses
    assert await tables.unpublished() == 0
    return True
