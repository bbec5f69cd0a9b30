"""From a ledger row to the mail server's reply, written down."""
