"""The function taskbell.resend, which plans mails again that were not sent; operator and notifier may call it."""

SIGNATURE = "resend(bigint, bigint[], text[])"

STATES = ("failed", "expired", "suppressed")
"""States of rows that may be planned again: no byte of their mail was taken."""

# One new mailing has all new rows, so that its outcome can be seen. It keeps T and the contents of the former one; its
# mails expire as long after now as the former ones expired after T.
#
# Left out are rows of unknown outcome, which may have been sent, and rows of which a later run exists that may still be
# sent, was, or is of unknown outcome itself: whoever asks twice mails nobody twice. Two callers at once wait for each
# other at the mailing's row; the ledger's unique key is the fence.
FUNCTION = """
CREATE OR REPLACE FUNCTION taskbell.resend(mailing bigint, deliveries bigint[], states text[])
RETURNS TABLE (mailing_id bigint, planned bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former record;
    created bigint;
    was_planned_again boolean;
BEGIN
    IF resend.states IS NULL OR NOT resend.states <@ ARRAY['failed', 'expired', 'suppressed'] THEN
        RAISE EXCEPTION 'taskbell.resend: only mails that ended failed, expired or suppressed are planned again'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT m.* INTO former FROM taskbell.mailing AS m WHERE m.id = resend.mailing FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Mails of a mailing that was planned again expired so long after that, not after T.
    was_planned_again := starts_with(former.message_id, 'resend.');
    INSERT INTO taskbell.mailing AS m (message_id, kind, at, timezone, force, props, body_digest, state, note)
    VALUES ('resend.' || gen_random_uuid(), former.kind, former.at, former.timezone, true, former.props,
        former.body_digest, 'sending', 'planned again from mailing ' || former.id)
    RETURNING m.id INTO created;
    RETURN QUERY
    WITH wanted AS (
        SELECT d.*, d.expires_at - CASE WHEN was_planned_again THEN d.created_at ELSE former.at END AS lasts
        FROM taskbell.delivery AS d
        WHERE d.mailing_id = resend.mailing AND d.state = ANY(resend.states)
            AND d.id BETWEEN former.first_delivery AND former.last_delivery
            AND (resend.deliveries IS NULL OR d.id = ANY(resend.deliveries))
            AND d.unknown_at IS NULL
            AND NOT EXISTS (
                SELECT FROM taskbell.delivery AS later
                WHERE later.kind = d.kind AND later.recipient = d.recipient AND later.period = d.period
                    AND later.run > d.run AND (later.unknown_at IS NOT NULL
                        OR later.state <> ALL(ARRAY['failed', 'expired', 'suppressed'])))
    ), inserted AS (
        INSERT INTO taskbell.delivery AS n
            (mailing_id, kind, recipient, user_id, address, period, run, expires_at, due_at)
        SELECT created, w.kind, w.recipient, w.user_id, CASE WHEN w.user_id IS NULL THEN w.address END, w.period,
            1 + (SELECT max(r.run) FROM taskbell.delivery AS r
                WHERE r.kind = w.kind AND r.recipient = w.recipient AND r.period = w.period),
            now() + w.lasts, now() + least(w.lasts, interval '150 seconds')
        FROM wanted AS w
        ON CONFLICT ON CONSTRAINT delivery_once_key DO NOTHING
        RETURNING n.id
    ), numbered AS (
        SELECT i.id, (row_number() OVER (ORDER BY i.id) - 1) / 100 AS batch FROM inserted AS i
    ), queued AS (
        INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)
        SELECT 'notifier', 'notifier.send_batch', jsonb_build_object('delivery_ids', jsonb_agg(b.id ORDER BY b.id)),
            CAST(gen_random_uuid() AS text)
        FROM numbered AS b GROUP BY b.batch
    ), counted AS (
        UPDATE taskbell.mailing AS m
        SET planned = c.rows, planned_at = now(), first_delivery = c.first, last_delivery = c.last
        FROM (SELECT count(*) AS rows, min(i.id) AS first, max(i.id) AS last FROM inserted AS i) AS c
        WHERE m.id = created
        RETURNING m.id, m.planned
    )
    SELECT c.id, c.planned FROM counted AS c;
    -- A mailing without mails would be completed, and reported, as if it had been asked for.
    DELETE FROM taskbell.mailing AS m WHERE m.id = created AND m.first_delivery IS NULL;
END
$$
"""

RESEND = (
    "SELECT mailing_id, planned FROM taskbell.resend(:mailing, CAST(:deliveries AS bigint[]), CAST(:states AS text[]))"
)
