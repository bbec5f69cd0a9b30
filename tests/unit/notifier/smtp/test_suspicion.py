"""When the same refusal to several people becomes ours, and whose it is afterwards."""

from taskbell_notifier.smtp.suspicion import KNOWN_SECONDS, Standing, Suspicions, ThrottledRecipients

WORDS = "550 no"


class Server:
    """Suspicions about a server, and the time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.suspicions = Suspicions(lambda: self.seconds)

    def refuses(self, *people: str, words: str = WORDS, names_us: bool = False) -> list[Standing]:
        return [self.suspicions.refused(words, person, names_us=names_us) for person in people]


ALONE, SUSPECTED, KNOWN = Standing.ALONE, Standing.SUSPECTED, Standing.KNOWN


def test_three_people_with_the_same_words_in_a_row_are_suspected() -> None:
    assert Server().refuses("ann", "bob", "cy") == [ALONE, ALONE, SUSPECTED]


def test_one_person_three_times_is_one_person() -> None:
    assert Server().refuses("ann", "ann", "ann", "bob") == [ALONE] * 4


def test_other_words_are_counted_by_themselves() -> None:
    server = Server()
    assert server.refuses("ann", "bob") == [ALONE, ALONE]
    assert server.refuses("cy", "di", words="550 spam") == [ALONE, ALONE]
    assert server.refuses("cy") == [SUSPECTED]


def test_a_mail_that_is_taken_begins_the_count_anew() -> None:
    server = Server()
    server.refuses("ann", "bob")
    server.suspicions.taken()
    assert server.refuses("cy", "di") == [ALONE, ALONE]


def test_words_that_name_the_sender_need_one_person() -> None:
    server = Server()
    assert server.refuses("ann", names_us=True) == [SUSPECTED]
    assert server.suspicions.any


def test_while_words_are_suspected_everybody_who_meets_them_is_included() -> None:
    server = Server()
    server.refuses("ann", "bob", "cy")
    assert server.refuses("di", "ann") == [SUSPECTED, SUSPECTED]


def test_words_that_other_processes_met_are_suspected_here_too() -> None:
    server = Server()
    server.suspicions.suspect(WORDS)
    assert server.refuses("ann") == [SUSPECTED]


def test_who_meets_suspected_words_again_after_others_were_served_pauses_nothing() -> None:
    server = Server()
    server.refuses("ann", names_us=True)
    server.suspicions.taken()
    assert not server.suspicions.any
    assert server.refuses("ann", names_us=True) == [KNOWN]
    # Nor does the next one: a relay may refuse a single domain in words that name us.
    assert server.refuses("bob", "cy", "di", "eve", "fay", names_us=True) == [ALONE] * 5
    assert server.refuses("gil", names_us=True) == [SUSPECTED]


def test_nobody_is_known_for_ever() -> None:
    server = Server()
    server.refuses("ann", names_us=True)
    server.suspicions.taken()
    server.seconds = KNOWN_SECONDS - 1
    assert server.refuses("ann", names_us=True) == [KNOWN]
    server.seconds = 2 * KNOWN_SECONDS
    assert server.refuses("ann", names_us=True) == [SUSPECTED]


def test_words_that_were_suspected_wrongly_need_twice_as_many_people_the_next_time() -> None:
    server = Server()
    server.refuses("ann", "bob", "cy")
    server.suspicions.taken()
    server.seconds += KNOWN_SECONDS - 1
    assert server.refuses("a", "b", "c", "d", "e", "f") == [ALONE] * 5 + [SUSPECTED]


def test_after_an_hour_they_need_as_many_as_at_first() -> None:
    server = Server()
    server.refuses("ann", "bob", "cy")
    server.suspicions.taken()
    server.seconds += KNOWN_SECONDS
    assert server.refuses("a", "b", "c") == [ALONE, ALONE, SUSPECTED]


def test_one_whose_mails_are_throttled_while_others_are_taken_is_told_from_all() -> None:
    nobody_is_served = ThrottledRecipients()
    assert [nobody_is_served.refused("ann") for _ in range(4)] == [1, 0, 0, 0]
    throttled = ThrottledRecipients()
    found = []
    for _ in range(4):
        found.append(throttled.refused("ann"))
        throttled.taken("bob")
    assert found == [1, 2, 3, 4]
    throttled.taken("ann")
    assert throttled.refused("ann") == 1
