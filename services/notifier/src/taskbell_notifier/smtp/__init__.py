"""Hands mails over to an SMTP server, and says exactly how each handing over ended.

    SmtpPool.submit ── Places, RateLimit ── SmtpSession ── transact ── Conversation ── the connection
         │                                      └ opened by aiosmtplib: connect, TLS, EHLO, AUTH
         └ Breaker: pauses after faults, probes, resumes

`replies.py` holds the table from replies to verdicts, and says when a mail is tried again.
"""
