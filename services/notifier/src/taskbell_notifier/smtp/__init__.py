"""Hands mails over to an SMTP server, and reports exactly how each submission ended.

    SmtpPool.submit ── Places, Pace ── SmtpSession ── transact ── Conversation ── the connection
         │                                      └ opened by aiosmtplib: connect, TLS, EHLO, AUTH
         └ Breaker: pauses after faults, probes, resumes

`replies.py` has the table from replies to verdicts, and the delays between tries; `pipelining.py` remembers servers
that lose commands; `own_name.py` has the name in EHLO; `login.py` logs in, with access tokens from `oauth.py`.
"""
