"""The composition root: the only place that constructs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from starlette.routing import Route

from taskbell.commands import CommandLog, Replies
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.http import HttpServer
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox, Relay
from taskbell.service import Application, Process, Service
from taskbell.setup.schema import check_schema
from taskbell.stalled import StalledSessions
from taskbell.zones import resolve_zone
from taskbell_notifier.delivery.compose import Letters
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.delivery.mail_server import SmtpPart, Watch, smtp_gate
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.delivery.sweeper import Sweeper
from taskbell_notifier.handlers import UseCases, batches, events_and_commands
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.metrics import Measures
from taskbell_notifier.planning.completion import Completion
from taskbell_notifier.planning.mailings import Mailings
from taskbell_notifier.planning.planner import Planner
from taskbell_notifier.planning.report import ReportMails
from taskbell_notifier.planning.trial import TestMails
from taskbell_notifier.pruner import Pruner
from taskbell_notifier.repository.contents import Material
from taskbell_notifier.repository.planning import BATCH, Planning
from taskbell_notifier.repository.preferences import Preferences
from taskbell_notifier.settings import NotifierSettings
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.unsubscribe.pages import Pages
from taskbell_notifier.unsubscribe.tokens import UnsubscribeLinks, Unsubscriber
from taskbell_notifier.unsubscribe.web import UnsubscribePages

AT_ONCE = 2
"""Batches under way: while one is claimed and loaded, another is being sent."""


@dataclass(frozen=True, slots=True)
class House:
    """What all rooms of the notifier share."""

    settings: NotifierSettings
    process: Process
    database: Database
    outbox: Outbox
    measures: Measures
    gate: Gate
    completion: Completion


@dataclass(frozen=True, slots=True)
class Post:
    """What sends mail."""

    pool: SmtpPool
    gate: Gate
    ledger: Ledger
    sender: Sender
    sweeper: Sweeper
    at_once: int


def build(settings: NotifierSettings, process: Process) -> Application:
    """Wires the notifier.

    Raises:
        SettingsError: a setting contradicts another.
    """
    database = Database.connect(settings, name="taskbell notifier")
    gate = Gate("postgresql", lambda: check_schema(database), process.health)
    outbox = Outbox("notifier")
    completion = Completion(database, gate=gate, outbox=outbox)
    house = House(settings, process, database, outbox, Measures(process.metrics), gate, completion)

    broker_url = settings.broker_url.get_secret_value()
    publisher = Publisher(broker_url, name="taskbell notifier publish")
    replies = Replies(Publisher(broker_url, name="taskbell notifier replies"))
    renderer = Renderer(settings.links, settings.product_name)
    unsubscriber = settings.unsubscriber
    links = UnsubscribeLinks(settings.public_url, unsubscriber) if unsubscriber else None
    routes = _routes(house, renderer, unsubscriber) if unsubscriber else []
    apart = settings.public_port

    planner = _planner(house)
    post = _post(house, renderer, links)
    relay = Relay(database, publisher, outbox, gate=gate, health=process.health, metrics=process.metrics)
    return Application(
        parts=[
            gate,
            post.gate,
            *_consumers(house, planner, post, publisher, CommandLog(database, replies)),
            relay,
            planner,
            post.sweeper,
            completion,
            post.ledger,
            SmtpPart(post.pool),
            Pruner(database, gate=gate),
            StalledSessions(database, gate),
        ],
        close=[post.sender.close, post.ledger.close, replies.close, publisher.close, database.close],
        routes=routes if apart is None else [],
        servers=[]
        if apart is None
        else [HttpServer(settings.http_host, apart, routes, name="public", setting="PUBLIC_PORT")],
    )


def _planner(house: House) -> Planner:
    return Planner(
        house.database,
        Planning(house.database.app),
        gate=house.gate,
        outbox=house.outbox,
        measures=house.measures,
        zone=house.settings.timezone,
        expiry=house.settings.expiry,
        on_planned=house.completion.wanted.set,
    )


def _post(house: House, renderer: Renderer, links: UnsubscribeLinks | None) -> Post:
    settings, database = house.settings, house.database
    smtp, writer, rng = settings.smtp, MailWriter(settings.sender), Random()  # noqa: S311 - spreads retries
    zone = resolve_zone(settings.timezone)
    assert zone is not None  # the settings have checked it
    hold = settings.unknown_policy == "hold"
    watch = Watch(house.measures)
    pool = SmtpPool(smtp, house.process.clock, observer=watch, rng=rng)
    sending = smtp_gate(watch, house.process.health)
    ledger = Ledger(
        database,
        gate=house.gate,
        outbox=house.outbox,
        measures=house.measures,
        lease=settings.lease,
        data=timedelta(seconds=smtp.data_timeout),
        domain=writer.sender.domain,
        hold=hold,
        sessions=lambda: pool.busy,
        on_ended=house.completion.wanted.set,
    )
    sender = Sender(
        database,
        Material(database.app),
        ledger,
        Letters(renderer, writer, links, zone),
        pool,
        house.process.clock,
        rng,
        sessions=smtp.pool_size,
        suppress=settings.mail_suppress_send,
    )
    sweeper = Sweeper(
        database,
        gate=house.gate,
        sending=sending,
        outbox=house.outbox,
        measures=house.measures,
        idle=sender.idle,
        lease=settings.lease,
        hold=hold,
        on_ended=house.completion.wanted.set,
    )
    return Post(pool, sending, ledger, sender, sweeper, AT_ONCE + 2 * smtp.pool_size // BATCH)


def _consumers(
    house: House, planner: Planner, post: Post, publisher: Publisher, log: CommandLog
) -> tuple[Consumers, Consumers]:
    """Two groups, each over a connection of its own: the troubles of the mail server hold up batches only."""
    settings, health, metrics = house.settings, house.process.health, house.process.metrics
    expiry, wanted = settings.expiry, house.completion.wanted
    use = UseCases(
        mailings=Mailings(house.database, expiry=expiry, planning=planner.wanted, completion=wanted),
        reports=ReportMails(
            house.database, house.outbox, recipients=settings.operators, expiry=expiry, completion=wanted
        ),
        test_mails=TestMails(log, house.outbox, expiry=expiry, completion=wanted),
        sender=post.sender,
        log=log,
    )
    url = settings.broker_url.get_secret_value()
    return (
        Consumers(
            url,
            events_and_commands(use),
            name="taskbell notifier",
            publisher=publisher,
            gates=[house.gate],
            health=health,
            metrics=metrics,
        ),
        Consumers(
            url,
            batches(use, at_once=post.at_once),
            name="taskbell notifier sending",
            publisher=publisher,
            gates=[house.gate, post.gate],
            health=health,
            metrics=metrics,
        ),
    )


def _routes(house: House, renderer: Renderer, unsubscriber: Unsubscriber) -> Sequence[Route]:
    pages = Pages(renderer.languages, house.settings.product_name)
    preferences = Preferences(house.database)
    return UnsubscribePages(unsubscriber, pages, preferences.opt_out, preferences.locale_of).routes()


service = Service("notifier", NotifierSettings, build)
