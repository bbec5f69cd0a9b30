"""The composition root: the only place that constructs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from starlette.routing import Route

from taskbell.clock_skew import ClockSkew
from taskbell.commands import CommandLog, Replies
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.http import HttpServer
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox, Relay
from taskbell.pruning import EndedRows, Pruner, commands_of, published_by, refused_commands_of
from taskbell.service import Application, Process, Service
from taskbell.setup.schema import check_schema
from taskbell.stalled import StalledSessions
from taskbell.zones import zone_named
from taskbell_notifier.delivery.bounces import Bounces
from taskbell_notifier.delivery.compose import Composer
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.delivery.mail_server import PoolCloser, PoolObserver, StartProbe, smtp_gate
from taskbell_notifier.delivery.refusals import Refusals
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.delivery.sweeper import Sweeper
from taskbell_notifier.handlers import UseCases, batches, events_and_commands
from taskbell_notifier.kinds.absent import Absent
from taskbell_notifier.kinds.table import Kinds, installed_kinds
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.planning.completion import Completion
from taskbell_notifier.planning.mailings import Mailings
from taskbell_notifier.planning.planner import Planner
from taskbell_notifier.planning.report import ReportMails
from taskbell_notifier.planning.trial import TestMailOutcomes, TestMails
from taskbell_notifier.repository import deliveries, mailings
from taskbell_notifier.repository.planning import BATCH
from taskbell_notifier.settings import NO_MAIL, NotifierSettings
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.unsubscribe.pages import Pages
from taskbell_notifier.unsubscribe.preferences import Preferences
from taskbell_notifier.unsubscribe.tokens import UnsubscribeLinks, Unsubscriber
from taskbell_notifier.unsubscribe.web import UnsubscribePages

WORKERS = 2
"""Batches under way with a small pool: while one is claimed and loaded, another is being sent."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The objects that all parts of the notifier share."""

    kinds: Kinds
    absent: Absent
    expiry: Mapping[str, timedelta]
    settings: NotifierSettings
    process: Process
    database: Database
    outbox: Outbox
    metrics: NotifierMetrics
    gate: Gate
    completion: Completion


@dataclass(frozen=True, slots=True)
class Sending:
    """The objects that send mail."""

    pool: SmtpPool
    observer: PoolObserver
    gate: Gate
    ledger: Ledger
    sender: Sender
    sweeper: Sweeper
    refusals: Refusals
    workers: int
    """Batches under way at once."""


def build(settings: NotifierSettings, process: Process) -> Application:
    """Constructs the notifier.

    Raises:
        SettingsError: a setting contradicts another.
    """
    database = Database.connect(settings, name="taskbell notifier")
    gate = Gate("postgresql", lambda: check_schema(database), process.health)
    outbox = Outbox("notifier")
    completion = Completion(database, gate=gate, outbox=outbox)
    kinds = installed_kinds()
    shared = Shared(
        kinds,
        Absent(),
        settings.expiry(kinds),
        settings,
        process,
        database,
        outbox,
        NotifierMetrics(process.metrics),
        gate,
        completion,
    )

    if settings.mail_suppress_send:
        process.health.set("mail", "degraded", NO_MAIL)
        shared.metrics.suppressed.set(1)

    broker_url = settings.broker_url.get_secret_value()
    publisher = Publisher(broker_url, name="taskbell notifier publish")
    replies = Replies(Publisher(broker_url, name="taskbell notifier replies"))
    renderer = Renderer(kinds, settings.links, settings.product_name)
    unsubscriber = settings.unsubscriber(kinds)
    links = UnsubscribeLinks(settings.public_url, unsubscriber) if unsubscriber else None
    routes = _routes(shared, renderer, unsubscriber) if unsubscriber else []
    public_port = settings.public_port

    planner = _planner(shared)
    sending = _sending(shared, renderer, links)
    commands = CommandLog(database, replies)
    tests = TestMailOutcomes(database, commands, gate=gate, paused=lambda: sending.observer.paused)
    relay = Relay(database, publisher, outbox, gate=gate, health=process.health, metrics=process.metrics)
    return Application(
        parts=[
            gate,
            sending.gate,
            *_consumers(shared, planner, sending, publisher, commands, tests),
            relay,
            planner,
            sending.sweeper,
            sending.refusals,
            completion,
            tests,
            sending.ledger,
            # With MAIL_SUPPRESS_SEND no mail server is needed.
            *([] if settings.mail_suppress_send else [StartProbe(sending.pool)]),
            PoolCloser(sending.pool),
            Pruner(database, gate, ended_rows()),
            ClockSkew(database, gate, process.clock, health=process.health, metrics=process.metrics),
            StalledSessions(database, gate),
        ],
        close=[sending.sender.close, sending.ledger.close, replies.close, publisher.close, database.close],
        routes=routes if public_port is None else [],
        servers=[]
        if public_port is None
        else [
            HttpServer(
                settings.http_host,
                public_port,
                routes,
                name="public",
                setting="PUBLIC_PORT",
                trusted_proxies=settings.trusted_proxies,
            )
        ],
    )


def ended_rows() -> Sequence[EndedRows]:
    """What the notifier prunes. Deliveries come first: a mailing goes once it has none left."""
    ended = (deliveries.PRUNED, mailings.PRUNED, published_by("notifier"))
    return (*ended, commands_of("notifier"), refused_commands_of("notifier"))


def _planner(shared: Shared) -> Planner:
    return Planner(
        shared.database,
        shared.kinds,
        shared.absent,
        gate=shared.gate,
        health=shared.process.health,
        outbox=shared.outbox,
        metrics=shared.metrics,
        zone=shared.settings.timezone,
        expiry=shared.expiry,
        on_planned=shared.completion.wanted.set,
    )


def _sending(shared: Shared, renderer: Renderer, links: UnsubscribeLinks | None) -> Sending:
    settings, database = shared.settings, shared.database
    smtp, writer, rng = settings.smtp, MailWriter(settings.sender), Random()  # noqa: S311 - spreads retries
    hold = settings.unknown_policy == "hold"
    observer = PoolObserver(shared.metrics)
    pool = SmtpPool(smtp, shared.process.clock, observer=observer, rng=rng)
    gate = smtp_gate(observer, shared.process.health)
    ledger = Ledger(
        database,
        gate=shared.gate,
        outbox=shared.outbox,
        metrics=shared.metrics,
        lease=settings.lease,
        data=timedelta(seconds=smtp.data_timeout),
        domain=writer.sender.domain,
        hold=hold,
        sessions=lambda: pool.busy,
        on_ended=shared.completion.wanted.set,
    )
    sender = Sender(
        database,
        shared.kinds,
        ledger,
        Composer(shared.kinds, shared.absent, renderer, writer, links, zone_named(settings.timezone)),
        pool,
        shared.process.clock,
        rng,
        sessions=smtp.pool_size,
        suppress=settings.mail_suppress_send,
    )
    sweeper = Sweeper(
        database,
        gate=shared.gate,
        sending=gate,
        outbox=shared.outbox,
        metrics=shared.metrics,
        idle=sender.idle,
        lease=settings.lease,
        hold=hold,
        on_ended=shared.completion.wanted.set,
    )
    refusals = Refusals(
        database,
        pool,
        gate=shared.gate,
        sending=gate,
        health=shared.process.health,
        outbox=shared.outbox,
        metrics=shared.metrics,
        on_ended=shared.completion.wanted.set,
    )
    shared.metrics.pace.set_function(lambda: pool.pace.per_second or 0.0)
    return Sending(pool, observer, gate, ledger, sender, sweeper, refusals, WORKERS + 2 * smtp.pool_size // BATCH)


def _consumers(
    shared: Shared,
    planner: Planner,
    sending: Sending,
    publisher: Publisher,
    commands: CommandLog,
    tests: TestMailOutcomes,
) -> tuple[Consumers, Consumers]:
    """Two groups, each with a connection of its own, so that an outage of the mail server delays batches only."""
    settings, process = shared.settings, shared.process
    expiry, wanted = shared.expiry, shared.completion.wanted
    use = UseCases(
        mailings=Mailings(
            shared.database, shared.outbox, shared.kinds, expiry=expiry, planning=planner.wanted, completion=wanted
        ),
        reports=ReportMails(
            shared.database, shared.outbox, recipients=settings.operators, expiry=expiry, completion=wanted
        ),
        test_mails=TestMails(
            shared.database, commands, shared.outbox, expiry=expiry, completion=wanted, wanted=tests.wanted
        ),
        bounces=Bounces(commands, shared.database.app, shared.metrics),
        sender=sending.sender,
        commands=commands,
    )
    url = settings.broker_url.get_secret_value()
    return (
        Consumers(
            url,
            events_and_commands(use, shared.kinds),
            name="taskbell notifier",
            publisher=publisher,
            gates=[shared.gate],
            health=process.health,
            metrics=process.metrics,
        ),
        Consumers(
            url,
            batches(use, workers=sending.workers),
            name="taskbell notifier sending",
            publisher=publisher,
            gates=[shared.gate, sending.gate],
            health=process.health,
            metrics=process.metrics,
        ),
    )


def _routes(shared: Shared, renderer: Renderer, unsubscriber: Unsubscriber) -> Sequence[Route]:
    pages = Pages(renderer.languages, shared.settings.product_name)
    preferences = Preferences(shared.database)
    return UnsubscribePages(unsubscriber, pages, preferences.opt_out, preferences.locale_of).routes()


service = Service("notifier", NotifierSettings, build)
