"""Kinds of mail, each in one file: its event, who gets it, what it says, and for how long it is worth sending.

`taskbell.kinds` says what a kind is. A kind's templates are mail/templates/NAME.html.j2 and NAME.txt.j2.
"""
