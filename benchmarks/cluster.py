"""A RabbitMQ cluster for one run. The nodes form it at their first start, and their data are deleted at the end."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from taskbell_devstack.ports import pick_free
from taskbell_devstack.processes import Launch, Launcher, ProcessRecord
from taskbell_devstack.rabbitmq import Rabbitmq
from taskbell_devstack.stack import Stack
from taskbell_devstack.state import RabbitmqSettings, StateFile
from taskbell_devstack.waiting import wait_until

SEED = "taskbell@localhost"
"""The first node's name, which the others look for."""

JOINING = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = {seed}
cluster_formation.classic_config.nodes.2 = {name}
"""


class Node(Rabbitmq):
    """A node that joins the first node when it starts without data."""

    def __init__(self, number: int, settings: RabbitmqSettings, directory: Path) -> None:
        super().__init__(settings, directory)
        self.name = f"rabbitmq-{number}"
        self.node = f"taskbell{number}@localhost"
        self.log = directory / "log" / f"{self.name}.log"

    def prepare(self) -> None:
        super().prepare()
        with (self.settings.home / "rabbitmq.conf").open("a") as configuration:
            configuration.write(JOINING.format(seed=SEED, name=self.node))

    def launch(self) -> Launch:
        given = super().launch()
        return replace(given, name=self.name, environment={**given.environment, "RABBITMQ_NODENAME": self.node})

    def members(self) -> list[str]:
        """The running nodes of the cluster, as this node sees them."""
        return [it["name"] for it in self._ask("GET", "/api/nodes") or [] if it["running"]]


class Cluster:
    """Nodes on this machine. The first belongs to a development stack; the others share its port mapper and its cookie.

    All of them are recorded in that stack's state, so that nodes which a run left behind can be stopped.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder = folder
        self._nodes = nodes
        self._stack = Stack(folder, servers=("rabbitmq",), say=lambda words: print(words, flush=True))
        self._record = StateFile(folder)
        self._launcher = Launcher()

    def up(self) -> RabbitmqSettings:
        """Starts the cluster; returns the first node's settings.

        Raises:
            RuntimeError: a node did not join.
        """
        self.down()  # in case an earlier run was cut off
        first = self._stack.up().rabbitmq
        assert first is not None
        for number in range(2, self._nodes + 1):
            self._join(Node(number, self._settings(first, number), self._folder), first.home, number)
        return first

    def down(self) -> None:
        """Stops all nodes and removes their data."""
        self._stack.down(at_once=True, remove_data=True)

    def pids(self) -> Mapping[str, int]:
        """The processes by name. The first node has the name that a single one has."""
        found = self._record.read().processes.items()
        return {name: process.pid for name, process in found if name.startswith(Rabbitmq.name)}

    def _settings(self, first: RabbitmqSettings, number: int) -> RabbitmqSettings:
        taken = self._record.read().taken_ports()
        ports: dict[str, int] = {}
        for name in ("port", "management_port", "distribution_port"):
            ports[name] = pick_free(besides=taken | set(ports.values()))
        return first.model_copy(update={**ports, "home": self._folder / f"{Rabbitmq.name}-{number}"})

    def _join(self, node: Node, first: Path, members: int) -> None:
        node.settings.home.mkdir(parents=True)
        cookie = node.settings.home / ".erlang.cookie"
        cookie.write_bytes((first / ".erlang.cookie").read_bytes())
        cookie.chmod(0o400)
        node.prepare()

        def on_record(process: ProcessRecord) -> None:
            with self._record.change() as state:
                state.processes[node.name] = process

        self._launcher.start(node.launch(), record=on_record)
        if not wait_until(node.accepts, limit=node.start_limit) or len(node.members()) < members:
            msg = f"{node.name} did not join the cluster; see {node.log}"
            raise RuntimeError(msg)
