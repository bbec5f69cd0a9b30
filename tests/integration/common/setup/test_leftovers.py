"""What `taskbell setup` says of packages that were removed, and what it leaves alone."""

from tests.integration.common.setup.package_installation import ACME, Installation
from tests.support.command import taskbell
from tests.support.packages import TIMESHEETS
from tests.support.roles import PASSWORD, allows, as_user, connected
from tests.support.vhosts import Vhost


async def test_removed_it_loses_its_rights_and_what_is_left_over_is_named(installation: Installation) -> None:
    await installation.set_up("--grant", ACME)
    management = installation.vhost.management
    for _ in range(3):
        await management.publish("taskbell.commands", "timesheets.approve", {"entry_id": 1})
    theirs = await management.listen("taskbell.events", "task.status_changed")

    done = await installation.without_package()

    told = done.out.splitlines()
    assert (
        "PostgreSQL: took USAGE on schema timesheets, INSERT, SELECT, UPDATE (approved) on timesheets.entry from "
        f"taskbell_timesheets: package {ACME} is not installed"
    ) in told
    assert not await installation.allows("notifier", "SELECT id FROM teams")
    left_over = [line.removeprefix("left over: ") for line in told if line.startswith("left over: ")]
    remedy = "which neither this version nor an installed package consumes: install its package again, or delete it"
    assert left_over == [
        f"PostgreSQL role taskbell_timesheets of package {ACME}, which is not installed: DROP ROLE taskbell_timesheets "
        "removes it, once it owns nothing",
        f"RabbitMQ user taskbell_timesheets of package {ACME}, which is not installed: `rabbitmqctl delete_user "
        "taskbell_timesheets` removes it",
        f"queue timesheets.approve with 3 messages, {remedy} (`rabbitmqctl delete_queue timesheets.approve`)",
        f"queue timesheets.dead with 0 messages, {remedy} (`rabbitmqctl delete_queue timesheets.dead`)",
        f"queue timesheets.task_status_changed with 0 messages, {remedy} "
        "(`rabbitmqctl delete_queue timesheets.task_status_changed`)",
    ]
    assert theirs in await management.queue_names(), "a queue that somebody else bound is not ours to speak of"


async def test_what_is_named_as_left_over_can_be_removed_as_it_is_said(installation: Installation) -> None:
    await installation.set_up("--grant", ACME)
    await installation.without_package()
    await installation.execute("DROP ROLE taskbell_timesheets")
    management = installation.vhost.management
    await management.call("DELETE", "/users/taskbell_timesheets")
    for queue in ("timesheets.approve", "timesheets.dead", "timesheets.task_status_changed"):
        await management.call("DELETE", f"/queues/{{vhost}}/{queue}")
    done = await installation.without_package()
    assert "left over" not in done.out
    assert "took" not in done.out


async def test_setup_grant_may_go_on_naming_a_package_that_was_removed(installation: Installation) -> None:
    installation.more = {"SETUP_GRANT": ACME}
    done = await installation.without_package()
    assert f"left out: package {ACME}, which is to be granted its rights: it is not installed" in done.out.splitlines()


async def test_roles_and_users_that_others_have_named_like_ours_are_left_alone(installation: Installation) -> None:
    management = installation.vhost.management
    await installation.execute("""
        CREATE ROLE taskbell_grafana LOGIN;
        GRANT SELECT ON public.tasks TO taskbell_grafana
    """)
    await management.call("PUT", "/users/taskbell_grafana", {"password": "x", "tags": "monitoring"})
    permissions = {"configure": "^$", "write": "^$", "read": ".*"}
    await management.call("PUT", "/permissions/{vhost}/taskbell_grafana", permissions)
    try:
        done = await installation.set_up()
        assert "grafana" not in done.out
        async with connected(installation.database_url) as connection:
            assert await connection.fetchval("SELECT has_table_privilege('taskbell_grafana', 'public.tasks', 'SELECT')")
        assert await management.call("GET", "/permissions/{vhost}/taskbell_grafana")
    finally:
        await management.call("DELETE", "/users/taskbell_grafana")
        await installation.execute("DROP OWNED BY taskbell_grafana; DROP ROLE taskbell_grafana")


async def test_a_package_does_not_take_over_a_login_of_somebody_else_by_naming_its_service_like_it(
    installation: Installation,
) -> None:
    management = installation.vhost.management
    source = TIMESHEETS.replace('"timesheets"', '"backup"').replace("timesheets.approve", "backup.approve")
    installation.packages.install("acme-backup", source)
    (installation.packages.folder / "acme_timesheets-1.0.dist-info" / "entry_points.txt").unlink()
    await installation.execute("""
        CREATE ROLE taskbell_backup LOGIN PASSWORD 'of their own';
        GRANT SELECT ON public.tasks TO taskbell_backup
    """)
    await management.call("PUT", "/users/taskbell_backup", {"password": "of their own", "tags": "monitoring"})
    installation.more = {"BACKUP_DATABASE_PASSWORD": PASSWORD, "BACKUP_BROKER_PASSWORD": PASSWORD}
    try:
        done = await installation.set_up("--grant", "acme-backup")
        told = done.out.splitlines()
        remedy = "COMMENT ON ROLE taskbell_backup IS 'Made by taskbell setup for package acme-backup'"
        assert (
            "left out: PostgreSQL role taskbell_backup for package acme-backup: there is one that setup has not made. "
            f"If it is the package's, say so: {remedy}"
        ) in told
        assert (
            "left out: RabbitMQ user taskbell_backup for package acme-backup: there is one that setup has not made. If "
            "it is the package's, say so: `rabbitmqctl set_user_tags taskbell_backup package:acme-backup`"
        ) in told
        async with connected(as_user(installation.database_url, "taskbell_backup", "of their own")) as connection:
            assert await allows(connection, "SELECT title FROM public.tasks")
        assert (await management.call("GET", "/users/taskbell_backup"))["tags"] == ["monitoring"]

        await installation.execute(remedy)
        await management.call(
            "PUT", "/users/taskbell_backup", {"password": "of their own", "tags": "package:acme-backup"}
        )
        again = await installation.set_up("--grant", "acme-backup")
        assert "that setup has not made" not in again.out
        assert await installation.allows("backup", "SELECT 1")
    finally:
        await management.call("DELETE", "/users/taskbell_backup")
        await installation.execute("DROP OWNED BY taskbell_backup; DROP ROLE taskbell_backup")


async def test_a_queue_of_an_earlier_version_of_ours_is_left_over_too(database_url: str, vhost: Vhost) -> None:
    await vhost.management.call("PUT", "/queues/{vhost}/notifier.monthly_due", {"durable": True})
    await vhost.management.call("PUT", "/queues/{vhost}/notifier.of_somebody_else", {"durable": True})
    await vhost.management.call(
        "POST", "/bindings/{vhost}/e/taskbell.events/q/notifier.monthly_due", {"routing_key": "monthly.due"}
    )
    await vhost.management.publish("taskbell.events", "monthly.due")
    given = {"DATABASE_URL": database_url, "BROKER_URL": vhost.url}
    done = await taskbell("setup", **given, BROKER_MANAGEMENT_URL=vhost.management.url)
    assert [line for line in done.out.splitlines() if line.startswith("left over")] == [
        "left over: queue notifier.monthly_due with 1 message, which neither this version nor an installed package "
        "consumes: install its package again, or delete it (`rabbitmqctl delete_queue notifier.monthly_due`)"
    ]
    assert "left over" not in (await taskbell("setup", **given)).out, "without the management API nobody can look"


async def test_a_look_for_what_is_left_over_does_not_make_setup_fail(database_url: str, vhost: Vhost) -> None:
    url = as_user(vhost.management.url, "nobody", "nothing")
    done = await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=vhost.url, BROKER_MANAGEMENT_URL=url)
    assert done.status == 0, done.err
    assert "left out: the search for queues that nobody needs any more: RabbitMQ's management API refused" in done.out
