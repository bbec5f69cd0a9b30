"""Our own kinds of mail, each in one file: its event, who gets it, what it says, and when it expires.

`taskbell.kinds` defines what a kind is. A kind's templates are mail/templates/NAME.html.j2 and NAME.txt.j2.
"""
