"""Makes the bytes of a mail from its kind and its contents; nothing here sends anything.

    clean          cleans text from outside, so that it can be shown
    dates, words   dates, words and plurals of one locale; locales/ has the catalogues
    links          the addresses in a mail
    context        what a kind composes a mail with: recipient, moment, words
    frame          what every mail has: greeting, preheader, button, footer
    tasks          a task as one entry of a list
    figures        the stored figures of a daily report
    report_tables  the tables of the daily report
    sources        template files, inlined, translated and compiled; templates/ has them
    render         makes subject, text and HTML from props and templates
    headers        addresses, subjects and Message-IDs as header fields
    mime           a rendered mail as bytes

`render.Renderer` and `mime.MailWriter` are constructed once in a process.
"""
