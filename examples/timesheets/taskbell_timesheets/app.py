"""Wires the service, for `faststream run --factory taskbell_timesheets.app:app`."""

import os

from faststream import FastStream
from faststream.rabbit import RabbitBroker
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from taskbell.faststream.postgresql import HandledInPostgresql
from taskbell_timesheets.handlers import timesheets


def app() -> FastStream:
    """The app, with the servers that DATABASE_URL and BROKER_URL name."""
    engine = create_async_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg"))
    broker = RabbitBroker(os.environ["BROKER_URL"])
    broker.include_router(timesheets(HandledInPostgresql(engine, "timesheets.handled_message")))
    return FastStream(broker, after_shutdown=[engine.dispose])
