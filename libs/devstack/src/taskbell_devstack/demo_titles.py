"""Two hundred titles of tasks, some of them difficult to show."""

LONG = (
    "Ask every team for the list of the pages that nobody has looked at since the last relaunch, sort it by the month "
    "of their last visit, and suggest for each of them who should decide if it stays or goes"
)
MARKUP = "Check that <script>alert('hello')</script> & \"quotes\" show as text"
EMOJI = "Celebrate the launch 🎉👩‍💻 with the whole team"
ARABIC = "مراجعة ترجمة صفحة الأسعار"
ACCENTS = "Übersetzung prüfen: « Où est passé le café ? » ¿Mañana?"

# By their place in the list. The first 34 tasks are overdue and the next 30 due within a day; each task at these places
# belongs to somebody who gets mail.
REMARKABLE = {0: LONG, 1: EMOJI, 2: ARABIC, 3: MARKUP, 34: MARKUP, 35: ACCENTS, 36: LONG, 37: ARABIC, 38: EMOJI}

DEEDS = (
    "Write",
    "Review",
    "Update",
    "Plan",
    "Test",
    "Translate",
    "Discuss",
    "Fix",
    "Publish",
    "Measure",
)
THINGS = (
    "the release notes",
    "the sign-up form",
    "the price list",
    "the backup of the wiki",
    "the welcome mail",
    "the search page",
    "the cookie notice",
    "the map of the office",
    "the settings screen",
    "the on-call calendar",
    "the contract with the printer",
    "the export to CSV",
    "the team page",
    "the dark theme",
    "the crash on old phones",
    "the invoice template",
    "the load test",
    "the accessibility report",
    "the holiday plan",
    "the fire drill",
)


def titles() -> list[str]:
    """The titles, always in the same order. All differ, except that difficult ones appear twice."""
    ordinary = [
        f"{DEEDS[(first + second) % len(DEEDS)]} {THINGS[second]}"
        for first in range(len(DEEDS))
        for second in range(len(THINGS))
    ]
    return [REMARKABLE.get(place, title) for place, title in enumerate(ordinary)]
