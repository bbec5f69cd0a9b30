"""The blocking client in processes of its own: forked ones, and ones that end."""

import subprocess
import sys
import textwrap

import pytest
from tests.support.management import Management

QUEUE = "maintenance.update_task_status"

PRELUDE = """
    import gc, logging, os, selectors, socket, sys, threading
    from taskbell.client import Client
    from taskbell.contracts import UpdateTaskStatus

    logging.getLogger("asyncio").setLevel(logging.ERROR)  # less would be how long callbacks took
    client = Client(sys.argv[1])

    def publish(message_id):
        client.publish(UpdateTaskStatus(task_id=1, new_status="done"), message_id=message_id)

    def in_child(work):
        child = os.fork()
        if child == 0:
            work()
            gc.collect()
            sys.exit(0)  # with all destructors, as a pre-forked worker ends
        assert os.waitpid(child, 0)[1] == 0
"""


def run(script: str, url: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    # DeprecationWarning: Python 3.12 warns of every fork in a process with threads, which is what is tested here.
    options = ["-X", "dev", "-W", "ignore::DeprecationWarning"]
    return subprocess.run(
        [sys.executable, *options, "-c", code, url], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("script", "published"),
    [
        pytest.param(
            """
            in_child(lambda: publish("first child"))
            in_child(lambda: publish("second child"))
            """,
            {"first child", "second child"},
            id="made before the fork, used after it",
        ),
        pytest.param(
            """
            publish("parent")
            engine = client._engine
            in_child(lambda: publish("child"))
            publish("parent again")
            assert client._engine is engine
            """,
            {"parent", "child", "parent again"},
            id="used before and after the fork",
        ),
        pytest.param(
            """
            def held():
                with client._lock:
                    locked.set()
                    forked.wait()

            publish("parent")
            locked, forked = threading.Event(), threading.Event()
            thread = threading.Thread(target=held)
            thread.start()
            locked.wait()
            in_child(lambda: publish("child"))
            forked.set()
            thread.join()
            """,
            {"parent", "child"},
            id="forked while another thread publishes",
        ),
    ],
)
async def test_a_forked_process_publishes_over_a_connection_of_its_own(
    broker_url: str, management: Management, script: str, published: set[str]
) -> None:
    done = run(script, broker_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert {message.properties["message_id"] for message in await management.take(QUEUE)} == published


async def test_whatever_a_child_does_to_the_sockets_that_it_inherited_the_parent_keeps_its_connection(
    broker_url: str, management: Management
) -> None:
    done = run(
        """
        def shut_down_all():
            for it in gc.get_objects():
                if isinstance(it, socket.socket) and it.family != socket.AF_UNIX:
                    try:
                        it.send(b"junk")
                        it.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
            for selector in (it for it in gc.get_objects() if isinstance(it, selectors.BaseSelector)):
                for key in list((selector.get_map() or {}).values()):
                    selector.unregister(key.fd)

        publish("before")
        connection = client._engine.client._publisher._connection
        in_child(shut_down_all)
        publish("after")
        assert client._engine.client._publisher._connection is connection
        """,
        broker_url,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(await management.take(QUEUE)) == 2


async def test_a_process_that_does_not_close_its_client_ends_cleanly(broker_url: str) -> None:
    done = run('publish("only one")', broker_url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_a_client_that_is_dropped_ends_its_thread(broker_url: str) -> None:
    done = run(
        """
        publish("only one")
        thread = client._engine.thread._thread
        del client
        gc.collect()
        thread.join(60)
        assert not thread.is_alive()
        """,
        broker_url,
    )
    assert (done.returncode, done.stderr) == (0, "")
