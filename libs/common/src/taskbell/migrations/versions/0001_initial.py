"""Taskbell's own tables.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not made from the models: a migration must mean the same for ever, the models change.
TABLES = """
CREATE TABLE taskbell.archive_batch (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    message_id TEXT NOT NULL,
    body JSONB NOT NULL,
    mode TEXT NOT NULL,
    cutoff timestamptz NOT NULL,
    cursor BIGINT DEFAULT '0' NOT NULL,
    tasks BIGINT DEFAULT '0' NOT NULL,
    held BIGINT DEFAULT '0' NOT NULL,
    held_ids BIGINT[] DEFAULT '{}' NOT NULL,
    held_reasons TEXT[] DEFAULT '{}' NOT NULL,
    restored BIGINT DEFAULT '0' NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT archive_batch_pkey PRIMARY KEY (id),
    CONSTRAINT archive_batch_mode_check CHECK (mode IN ('archive', 'delete')),
    CONSTRAINT archive_batch_message_id_key UNIQUE (message_id)
);

CREATE TABLE taskbell.command (
    message_id TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    body JSONB,
    state TEXT NOT NULL,
    result JSONB,
    reason TEXT,
    attempts BIGINT DEFAULT '1' NOT NULL,
    correlation_id TEXT,
    received_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT command_pkey PRIMARY KEY (message_id),
    CONSTRAINT command_state_check CHECK (state IN ('done', 'unchanged', 'rejected', 'failed'))
);

CREATE INDEX command_finished_at_idx ON taskbell.command (finished_at);
CREATE TABLE taskbell.mailing (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    occurrence timestamptz,
    at timestamptz DEFAULT now() NOT NULL,
    timezone TEXT,
    user_ids BIGINT[],
    force BOOLEAN DEFAULT 'false' NOT NULL,
    props JSONB,
    body_digest TEXT NOT NULL,
    state TEXT DEFAULT 'planning' NOT NULL,
    cursor BIGINT DEFAULT '0' NOT NULL,
    planned BIGINT DEFAULT '0' NOT NULL,
    already BIGINT DEFAULT '0' NOT NULL,
    first_delivery BIGINT,
    last_delivery BIGINT,
    counts JSONB,
    note TEXT,
    inserted_at timestamptz DEFAULT now() NOT NULL,
    planned_at timestamptz,
    completed_at timestamptz,
    CONSTRAINT mailing_pkey PRIMARY KEY (id),
    CONSTRAINT mailing_state_check CHECK (state IN ('planning', 'sending', 'completed', 'cancelled')),
    CONSTRAINT mailing_message_id_key UNIQUE (message_id)
);

CREATE INDEX mailing_joined_idx ON taskbell.mailing (kind, body_digest, inserted_at);
CREATE INDEX mailing_open_idx ON taskbell.mailing (id) WHERE completed_at IS NULL;
CREATE TABLE taskbell.occurrence (
    schedule TEXT NOT NULL,
    zone TEXT NOT NULL,
    key TEXT NOT NULL,
    at timestamptz NOT NULL,
    status TEXT NOT NULL,
    occurrences BIGINT DEFAULT '1' NOT NULL,
    reason TEXT,
    message_id TEXT,
    recorded_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT occurrence_pkey PRIMARY KEY (schedule, zone, key),
    CONSTRAINT occurrence_status_check CHECK (status IN ('published', 'missed', 'paused'))
);

CREATE INDEX occurrence_history_idx ON taskbell.occurrence (schedule, at);
CREATE INDEX occurrence_recorded_at_idx ON taskbell.occurrence (recorded_at);
CREATE TABLE taskbell.outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    owner TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    body JSONB NOT NULL,
    message_id TEXT NOT NULL,
    correlation_id TEXT,
    traceparent TEXT,
    created_at timestamptz DEFAULT now() NOT NULL,
    not_before timestamptz,
    attempts BIGINT DEFAULT '0' NOT NULL,
    last_error TEXT,
    published_at timestamptz,
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_owner_check CHECK (owner IN ('scheduler', 'notifier', 'maintenance', 'app')),
    CONSTRAINT outbox_message_id_key UNIQUE (message_id)
);

CREATE INDEX outbox_published_idx ON taskbell.outbox (owner, published_at) WHERE published_at IS NOT NULL;
CREATE INDEX outbox_waiting_idx ON taskbell.outbox (owner, id) WHERE published_at IS NULL;
CREATE TABLE taskbell.preference (
    user_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    source TEXT,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT preference_pkey PRIMARY KEY (user_id, kind)
);

CREATE TABLE taskbell.report (
    date DATE NOT NULL,
    as_of timestamptz NOT NULL,
    body JSONB NOT NULL,
    message_id TEXT NOT NULL,
    generated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT report_pkey PRIMARY KEY (date)
);

CREATE TABLE taskbell.schedule_state (
    schedule TEXT NOT NULL,
    zone TEXT NOT NULL,
    cron TEXT DEFAULT '' NOT NULL,
    position timestamptz NOT NULL,
    active BOOLEAN DEFAULT 'true' NOT NULL,
    paused BOOLEAN DEFAULT 'false' NOT NULL,
    paused_at timestamptz,
    resumed_at timestamptz,
    generation BIGINT DEFAULT '0' NOT NULL,
    note TEXT,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT schedule_state_pkey PRIMARY KEY (schedule, zone)
);

CREATE TABLE taskbell.suppression (
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    delivery_id BIGINT,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT suppression_pkey PRIMARY KEY (address)
);

CREATE TABLE taskbell.archived_task (
    batch_id BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    row JSONB NOT NULL,
    archived_at timestamptz DEFAULT now() NOT NULL,
    restored_at timestamptz,
    CONSTRAINT archived_task_pkey PRIMARY KEY (batch_id, task_id)
);

CREATE TABLE taskbell.delivery (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    mailing_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    user_id BIGINT,
    period TEXT NOT NULL,
    run INTEGER DEFAULT '0' NOT NULL,
    state TEXT DEFAULT 'planned' NOT NULL,
    phase TEXT,
    claim UUID,
    lease_until timestamptz,
    attempts INTEGER DEFAULT '0' NOT NULL,
    resends INTEGER DEFAULT '0' NOT NULL,
    cut_offs INTEGER DEFAULT '0' NOT NULL,
    unknown_at timestamptz,
    next_attempt_at timestamptz,
    due_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    address TEXT,
    mail_message_id TEXT,
    reason TEXT,
    created_at timestamptz DEFAULT now() NOT NULL,
    queued_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    CONSTRAINT delivery_pkey PRIMARY KEY (id),
    CONSTRAINT delivery_once_key UNIQUE (kind, recipient, period, run),
    CONSTRAINT delivery_state_check CHECK (state IN (
        'planned', 'sending', 'retry', 'unknown', 'sent', 'skipped', 'suppressed', 'expired', 'failed')),
    CONSTRAINT delivery_phase_check CHECK (phase IN ('envelope', 'data'))
)
 WITH (fillfactor = 70);

CREATE INDEX delivery_ended_idx ON taskbell.delivery (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX delivery_open_idx ON taskbell.delivery (mailing_id, due_at) WHERE ended_at IS NULL;
"""


def upgrade() -> None:
    """Creates the tables. Their schema is there already: alembic keeps its own table in it."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """There is nothing before the first version to go back to; dropping the schema would lose the ledger."""
    msg = "Taskbell's first version cannot be downgraded: restore a backup instead"
    raise RuntimeError(msg)
