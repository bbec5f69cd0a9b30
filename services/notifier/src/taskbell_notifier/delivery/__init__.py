"""Sends mails: from a ledger row to the mail server's reply, and to the outcome in the ledger."""
