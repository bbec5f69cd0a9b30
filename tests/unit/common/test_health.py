"""What a process says of itself."""

from taskbell.health import Health


def test_a_part_that_has_not_reported_keeps_the_process_from_being_ready() -> None:
    health = Health()
    assert health.ready
    health.expect("postgresql", "outbox")
    health.set("postgresql", "ready")
    assert not health.ready
    assert health.report() == {
        "status": "waiting",
        "parts": {"outbox": {"state": "waiting", "detail": "starting"}, "postgresql": {"state": "ready"}},
    }
    health.set("outbox", "ready")
    assert health.ready
    assert health.report()["status"] == "ready"


def test_degraded_is_ready_and_says_so() -> None:
    health = Health()
    health.set("smtp", "degraded", "535 from the server")
    assert health.ready
    assert health.report() == {
        "status": "degraded",
        "parts": {"smtp": {"state": "degraded", "detail": "535 from the server"}},
    }
    health.set("postgresql", "waiting", "down")
    assert not health.ready
    assert health.report()["status"] == "waiting"


def test_expecting_a_part_again_does_not_forget_how_it_is() -> None:
    health = Health()
    health.set("outbox", "ready")
    health.expect("outbox")
    assert health.ready


def test_services_in_one_process_do_not_speak_for_each_other() -> None:
    health = Health()
    notifier, maintenance = health.of("notifier"), health.of("maintenance")
    notifier.expect("outbox")
    maintenance.expect("outbox")
    notifier.set("outbox", "waiting", "no queue is bound")
    maintenance.set("outbox", "ready")
    assert not health.ready
    assert set(health.report()["parts"]) == {"notifier outbox", "maintenance outbox"}
    assert notifier.report() == health.report()
