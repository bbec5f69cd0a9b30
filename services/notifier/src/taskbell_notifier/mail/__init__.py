"""What a mail is, from a selection of tasks to the bytes on the wire; nothing here sends anything.

    clean        text from outside, made fit to be shown
    dates, words one locale's dates, words and plurals; locales/ holds the catalogues
    links        where links lead
    frame        what every mail has: greeting, preheader, button, footer
    tasks        a task as one entry of a list
    content      the props of reminder, overdue alert, weekly summary and test mail
    figures      the stored figures of a daily report
    report       the props of the daily report, whose tables are in report_tables
    sources      template files inlined, translated and compiled; templates/ holds them
    render       props and templates to subject, text and HTML
    headers      addresses, subjects and Message-IDs as header fields
    mime         a rendered mail as bytes
    unsubscribe  tokens and links that end a mailing
    pages        the web pages behind those links

`render.Renderer` and `mime.MailWriter` are constructed once and kept.
"""
