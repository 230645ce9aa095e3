"""pytest plugin: kazoo's own tests against the servers under test (see ../ensemble.py).

kazoo.testing starts a cluster of Apache servers. This replaces how a server is started, and
nothing else: the configuration is the one that kazoo writes (TLS, SASL, four-letter words, super
user), bound to 127.0.0.1, and the tests are as published.

Environment: FOREIGN_SERVER, RINGKEEPER (see ../server); FOREIGN_NO_TLS leaves out the TLS port.
Options: --foreign-exclude FILE, lines `test id  # reason`.
"""

import os
import pathlib

import ensemble
import process
import pytest
from kazoo.testing import common, harness


def configuration(server):
    info = server.server_info
    home = pathlib.Path(server.working_path)
    lines = [
        "tickTime=2000",
        f"dataDir={home / 'data'}",
        f"clientPort={info.client_port}",
        "clientPortAddress=127.0.0.1",
        "maxClientCnxns=0",
        f"admin.serverPort={info.admin_port}",
        "admin.serverAddress=127.0.0.1",
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        *server.configuration_entries,
    ]
    if server.peers:
        peers = sorted([info, *server.peers], key=lambda peer: peer.server_id)
        lines.remove("reconfigEnabled=true")
        lines += ensemble.lines([peer.client_port for peer in peers])
    if not os.environ.get("FOREIGN_NO_TLS"):
        lines += [
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
            f"secureClientPort={info.secure_client_port}",
            "secureClientPortAddress=127.0.0.1",
        ]
        for name, file in (("keyStore", "keystore.jks"), ("trustStore", "truststore.jks")):
            server.ssl_configuration[name.lower()].save(str(home / file), "apassword")
            lines += [f"ssl.{name}.location={home / file}", f"ssl.{name}.password=apassword"]
    return "\n".join(lines) + "\n"


def run(server):
    """ManagedZooKeeper.run: start the server and wait until it serves."""
    if not server.running:
        launch(server)
    await_service(server)


def launch(server):
    info = server.server_info
    home = pathlib.Path(server.working_path)
    ensemble.register(home / "data", info.server_id)
    (home / "zoo.cfg").write_text(configuration(server))
    (home / "jaas.conf").write_text(server.jaas_config or "")
    properties = [
        f"-Djava.security.auth.login.config={home / 'jaas.conf'}",
        *server.java_system_properties,
    ]
    config, log = home / "zoo.cfg", home / "zookeeper.log"
    environment = ensemble.ALONE if server.peers else None
    server.process = process.Server(server.client_port, config, log, properties, environment)
    server.process.launch()
    server._running = True


def await_service(server):
    try:
        server.process.await_service()
    except process.NotServing as error:
        pytest.exit(f"the server does not start:\n{error}", 3)


def stop(server):
    """ManagedZooKeeper.stop: end the process, keep its data."""
    if server.running:
        server.process.stop()
        server._running = False


def start(cluster):
    """ZookeeperCluster.start: members of an ensemble serve when there are others."""
    for server in cluster:
        if not server.running:
            launch(server)
    for server in cluster:
        await_service(server)


SIZE = 1 if ensemble.HAS_ONE_ADDRESS else ensemble.COUNT
common.ManagedZooKeeper.run = run
common.ManagedZooKeeper.stop = stop
common.ZookeeperCluster.start = start
harness.CLUSTER_DEFAULTS.update(
    ZOOKEEPER_CLUSTER_SIZE=SIZE,
    ZOOKEEPER_CLASSPATH="unused",
    ZOOKEEPER_VERSION="3.9",
    # kazoo takes ten for each server, of which the last has five.
    ZOOKEEPER_PORT_OFFSET=process.free_ports(10 * SIZE - 5),
)


# Tests that pass or fail by which of kazoo's own threads is first, whatever the server does; they
# are repeated until they tell something about the server.
RACES = {
    # start() raises AuthFailedError only if it looks between the handshake and the failed SASL.
    "test_invalid_sasl_auth",
}


def pytest_addoption(parser):
    parser.addoption("--foreign-exclude", action="append", default=[])


def pytest_collection_modifyitems(config, items):
    excluded = set()
    for file in config.getoption("--foreign-exclude"):
        for line in pathlib.Path(file).read_text().splitlines():
            name, _, reason = line.partition("#")
            if name.strip():
                assert reason.strip(), f"{file}: no reason given for {name}"
                excluded.add(name.strip())
    if os.environ.get("FOREIGN_NO_TLS"):
        excluded.add("TestSSLClient")
    dropped = [i for i in items if any(f"::{e}::" in f"::{i.nodeid}::" for e in excluded)]
    items[:] = [i for i in items if i not in dropped]
    config.hook.pytest_deselected(items=dropped)
    for item in items:
        if item.name in RACES:
            item.add_marker(pytest.mark.flaky(reruns=20))
