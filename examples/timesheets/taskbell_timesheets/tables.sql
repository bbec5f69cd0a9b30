CREATE SCHEMA timesheets;

CREATE TABLE timesheets.entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id bigint NOT NULL,
    hours double precision NOT NULL,
    note text,
    to_bill boolean NOT NULL DEFAULT false,
    logged_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON timesheets.entry (task_id) WHERE NOT to_bill;

-- The message_ids of what has taken effect.
CREATE TABLE timesheets.handled_message (
    queue text,
    message_id text,
    outcome jsonb,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, message_id)
);
