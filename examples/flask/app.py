"""A small task app in one file, which shows how a Flask app uses Taskbell.

pip install -r requirements.txt
DATABASE_URL=postgresql://… BROKER_URL=amqp://… flask run
"""

import os
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import psycopg
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from taskbell.client import BrokerUnavailable, Client, OutcomeUnknown, Unroutable
from taskbell.contracts import ReminderDue, UpdateTaskStatus

ANSWERS = {"done": 200, "unchanged": 200, "rejected": 409, "failed": 500}
"""The HTTP status of the answer, by the command's outcome."""


def create_app(database_url: str | None = None, broker_url: str | None = None) -> Flask:
    """Makes the app. Settings that are not given come from the environment."""
    app = Flask(__name__)
    database = database_url or os.environ["DATABASE_URL"]
    # One client for the whole app. It connects at its first use in each worker process.
    taskbell = Client(broker_url or os.environ["BROKER_URL"], name="task app")

    @app.get("/tasks")
    def tasks() -> ResponseReturnValue:
        with psycopg.connect(database, row_factory=dict_row) as connection:
            return jsonify(connection.execute("SELECT id, title, status, due_date FROM tasks ORDER BY id").fetchall())

    @app.put("/tasks/<int:task_id>/status")
    def change_status(task_id: int) -> ResponseReturnValue:
        """Change a status and wait for the outcome. A repeated request with the same key takes effect once."""
        command = UpdateTaskStatus.model_validate({**request.get_json(), "task_id": task_id})
        key = request.headers.get("Idempotency-Key")
        # Callers choose the key. If two use the same key for different tasks, those must not be the same command.
        message_id = str(uuid5(NAMESPACE_URL, f"{request.path}#{key}")) if key else None
        outcome = taskbell.request(command, timeout=5, message_id=message_id)
        answer = {"state": outcome.state, "reason": outcome.reason, "message_id": outcome.message_id}
        return answer, ANSWERS[outcome.state]

    @app.post("/tasks")
    def create_task() -> ResponseReturnValue:
        """Create a task and, in the same transaction, ask for a reminder of what is due within a day."""
        task: dict[str, Any] = request.get_json()
        if missing := [name for name in ("title", "due_date", "assignee_id") if name not in task]:
            return {"error": f"missing: {', '.join(missing)}"}, 422
        with psycopg.connect(database) as connection:  # commits at the end of the block
            row = connection.execute(
                "INSERT INTO tasks (title, due_date, assignee_id) VALUES (%(title)s, %(due_date)s, %(assignee_id)s)"
                " RETURNING id",
                task,
            ).fetchone()
            reminder = ReminderDue(user_ids=(task["assignee_id"],))
            connection.execute(
                "SELECT taskbell.enqueue('reminder.due', %s)", [Jsonb(reminder.model_dump(exclude_unset=True))]
            )
        assert row is not None  # INSERT … RETURNING always returns a row
        return {"id": row[0]}, 201

    @app.post("/users/<int:user_id>/reminder")
    def remind(user_id: int) -> ResponseReturnValue:
        """Have somebody reminded now. The app writes nothing, so no transaction is needed."""
        return {"message_id": taskbell.publish(ReminderDue(user_ids=(user_id,)))}, 202

    @app.errorhandler(ValidationError)
    def wrong(error: ValidationError) -> ResponseReturnValue:
        return {"error": error.errors(include_url=False, include_context=False, include_input=False)}, 422

    @app.errorhandler(OutcomeUnknown)
    def under_way(error: OutcomeUnknown) -> ResponseReturnValue:
        """The command was published, but its outcome is not known yet; the same key may be sent again."""
        return {"message_id": error.message_id, "error": str(error)}, 202

    @app.errorhandler(BrokerUnavailable)
    @app.errorhandler(Unroutable)
    def unavailable(error: BrokerUnavailable | Unroutable) -> ResponseReturnValue:
        return {"message_id": error.message_id, "error": "try again in a minute"}, 503

    return app
