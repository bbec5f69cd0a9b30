"""All SQL of the notifier.

mailings      mailing rows: inserted once a message_id, completed, pruned
planning      a page of people becomes ledger rows and the messages that send them
deliveries    ledger rows: claimed, marked, changed, swept
material      what mails are made of: people, tasks, reports
preferences   who wants what
history       what became of somebody's mails, for operators
"""
