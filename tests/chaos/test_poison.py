"""Poison for every queue of a real notifier and a real maintenance: all in the dead letters, neighbours unaffected."""

import asyncio
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import httpx
import pytest
from aiormq.abc import DeliveredMessage
from prometheus_client.parser import text_string_to_metric_families

from taskbell.contracts import MAX_BODY_BYTES
from taskbell.messaging.wire.frames import KEPT
from tests.chaos.support.arrivals import Arrivals
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.poison_messages import MESSAGES, PoisonMessage, poison_messages
from tests.chaos.support.status_requests import StatusRequests
from tests.integration.common.messaging.raw import RawPublisher
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

ROW = "poison"
SERVICES = ("notifier", "maintenance")
DEAD = tuple(f"{service}.dead" for service in SERVICES)
PUBLISHERS = 2
"""So many messages are under way at once: few enough that what is measured is not how long they wait in a queue."""


class PoisonRun:
    """What was published, and when its dead letter came."""

    def __init__(self) -> None:
        self.published: list[PoisonMessage] = []
        self.dead_letters: dict[str | bytes, list[DeliveredMessage]] = defaultdict(list)
        self.delays: list[float] = []
        self._since: dict[str | bytes, list[float]] = defaultdict(list)
        self._under_way = asyncio.Semaphore(PUBLISHERS)

    async def publish(self, url: str, given: Iterator[PoisonMessage]) -> None:
        """Publishes, each once there is room for one more under way."""
        async with RawPublisher(url) as raw:
            for poison in given:
                try:
                    await asyncio.wait_for(self._under_way.acquire(), 60)
                except TimeoutError:
                    lost = [it.kind for it in self.published if it.identity not in self.dead_letters]
                    raise AssertionError(f"no dead letter came for a minute; there is none for {lost}") from None
                self.published.append(poison)
                self._since[poison.identity].append(time.perf_counter())
                message = MESSAGES[poison.queue]
                accepted = await raw.publish(
                    message.exchange, message.routing_key.encode(), poison.body, poison.properties
                )
                assert accepted, poison.kind

    def take(self, dead_letter: DeliveredMessage) -> None:
        """One has come."""
        name = dead_letter.header.properties.message_id or ""
        identity = name if name.startswith("poison-") else dead_letter.body
        self.dead_letters[identity].append(dead_letter)
        if since := self._since[identity]:
            self.delays.append(time.perf_counter() - since.pop(0))
        self._under_way.release()


@pytest.mark.alone
async def test_poison_goes_to_the_dead_letters_and_good_messages_go_their_way(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, inbox: Inbox
) -> None:
    count, usual = plan.pick(quick=(400, 100), full=(10_000, 1_000))
    installation = Installation(database_url, vhost, inbox)
    await installation.insert("tasks", [{"id": 7, "title": "A", "status": "pending", "priority": "low"}])
    run = PoisonRun()
    try:
        await installation.start(*SERVICES)
        async with StatusRequests(vhost.url, task=7) as good, Arrivals(vhost.url, *DEAD, each=run.take):
            await eventually(lambda: good.answers, what="the first answer: connections are open then")
            opened = time.monotonic()
            await eventually(lambda: len(good.between(opened, math.inf)) >= usual, what="the usual delay", limit=120)
            given = poison_messages(random.Random(seed), count)
            began = time.monotonic()
            await asyncio.gather(*(run.publish(vhost.url, given) for _ in range(PUBLISHERS)))
            ended = time.monotonic()
            await eventually(
                lambda: sum(map(len, run.dead_letters.values())) >= count, what=f"all dead letters, SEED={seed}"
            )
            answered = len(good.answers)
            await eventually(lambda: len(good.answers) > answered, what="an answer after all of it")
            good.check()
        quiet, beside = good.between(opened, began), good.between(began, ended)
        rate = count / (ended - began)
        installation.check_running()
        await check_dead_letters(run, seed)
        await check_rows(installation, run, seed)
        late = await later_than_a_second(installation, count)
    finally:
        await installation.stop()

    figures.note(ROW, "messages", count)
    figures.note(ROW, "kinds", len({it.kind for it in run.published}), at_least=12)
    figures.note(ROW, "messages a second", rate)
    figures.note(ROW, "seconds from publish to dead letter, 99th percentile", percentile(run.delays, 99), at_most=1)
    figures.note(ROW, "seconds from publish to dead letter, longest", max(run.delays), at_most=1)
    figures.note(ROW, "messages that a service held for more than a second", late, at_most=0)
    figures.note(ROW, "good messages beside them", len(beside))
    usually, among = statistics.median(quiet), statistics.median(beside)
    figures.note(ROW, "ms until a good message is answered, median when all is quiet", usually * 1000)
    figures.note(ROW, "ms until a good message is answered, 99th percentile in quiet", percentile(quiet, 99) * 1000)
    figures.note(ROW, "ms until a good message is answered, median among poison", among * 1000)
    figures.note(
        ROW, "ms until a good message is answered, 99th percentile among poison", percentile(beside, 99) * 1000
    )
    figures.note(ROW, "times the usual delay of a good message among poison, medians", among / usually, at_most=2)


async def check_dead_letters(run: PoisonRun, seed: int) -> None:
    """None is lost, none there twice, each as it was published or its beginning, with a reason and its origin."""
    expected = Counter(poison.identity for poison in run.published)
    found = Counter({identity: len(dead_letters) for identity, dead_letters in run.dead_letters.items()})
    assert found == expected, f"SEED={seed}: {(found - expected) + (expected - found)}"
    for poison in run.published:
        message = MESSAGES[poison.queue]
        body = poison.body if len(poison.body) <= MAX_BODY_BYTES else poison.body[:KEPT]
        dead_letters = [
            it for it in run.dead_letters[poison.identity] if it.body == body and of(it, "queue") == poison.queue
        ]
        assert dead_letters, f"SEED={seed}: {poison.kind} in {poison.queue}"
        for dead_letter in dead_letters:
            assert dead_letter.routing_key == f"{poison.queue.partition('.')[0]}.dead"
            assert of(dead_letter, "exchange") == message.exchange
            assert of(dead_letter, "routing-key") == message.routing_key
            assert of(dead_letter, "attempt") == 0
            reason = of(dead_letter, "reason")
            assert isinstance(reason, str), poison.kind
            assert len(reason) > 10, f"SEED={seed}: {poison.kind}: {reason}"


async def check_rows(installation: Installation, run: PoisonRun, seed: int) -> None:
    """Commands have their row, rejected with a reason; nothing took effect but what was good."""
    commands = [it for it in run.published if MESSAGES[it.queue].has_outcome]
    rows = await installation.rows("SELECT message_id, reason FROM taskbell.command WHERE state = 'rejected'")
    named = {it.identity for it in commands if isinstance(it.identity, str)}
    assert named <= {row["message_id"] for row in rows}, f"SEED={seed}"
    # A namesake has a row of its own.
    assert len({row["message_id"] for row in rows}) == len(named) + sum(
        1 for it in commands if isinstance(it.identity, bytes)
    ), f"SEED={seed}"
    assert all(row["reason"] for row in rows)
    others = "SELECT message_id FROM taskbell.command WHERE state <> 'rejected' AND message_id NOT LIKE 'good-%'"
    assert await installation.rows(others) == []
    for table in ("mailing", "delivery", "report", "archive_batch"):
        assert await installation.rows(f"SELECT 1 FROM taskbell.{table}") == [], table


async def later_than_a_second(installation: Installation, count: int) -> float:
    """How many messages a service held for longer, as it counts itself; all of the poison is counted as dead, once."""
    late = dead = 0.0
    async with httpx.AsyncClient(trust_env=False) as http:
        for service in SERVICES:
            answer = await http.get(installation.url(service) + "/metrics")
            for family in text_string_to_metric_families(answer.text):
                for name, labels, value, *_ in family.samples:
                    if name == "taskbell_messages_total":
                        assert labels["fate"] in {"dead", "done"} or value == 0, labels
                        dead += value if labels["fate"] == "dead" else 0
                    elif name == "taskbell_message_seconds_count":
                        late += value
                    elif name == "taskbell_message_seconds_bucket" and labels["le"] == "1.0":
                        late -= value
    assert dead == count
    return late


def of(dead_letter: DeliveredMessage, name: str) -> object:
    """What the service wrote into that header."""
    return (dead_letter.header.properties.headers or {}).get(f"x-taskbell-{name}")


def percentile(values: list[float], rank: int) -> float:
    return statistics.quantiles(values, n=100)[rank - 1]
