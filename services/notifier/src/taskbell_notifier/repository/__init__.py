"""All SQL of the notifier.

mailings      mailing rows: inserted once for each message_id, completed, pruned
planning      writes the ledger rows of a page of users, and the messages that send them
deliveries    ledger rows: claimed, marked, changed, swept
conditions    who gets a kind of mail, as SQL
contents      what mails are made of: people, tasks, reports
statements    what the mails of a package's kind are made of
preferences   which kinds of mail a user does not want
history       what happened to a recipient's mails, for operators
"""
