"""Plans mailings: from an event to ledger rows, and to the end of the mailing."""
