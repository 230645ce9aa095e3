#!/usr/bin/env python3
"""Two Kafka brokers that keep their state in the servers under test (see ../ensemble.py).

    checks.py CLASSPATH [LAST]

CLASSPATH is a file with the class path of Kafka, LAST how the name of the last check begins.

Records are produced and consumed, and topics made and changed, while servers and brokers end and
come back. Last line: "N passed, N failed".
"""

import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import process
from ensemble import HAS_ONE_ADDRESS, Ensemble
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

WAIT_SECONDS = 120


def until(what, condition):
    """The first true value of `condition`, which may fail while brokers come and go."""
    deadline, last = time.monotonic() + WAIT_SECONDS, None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            last = found
        except (KafkaError, NoNodeError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"not within {WAIT_SECONDS} s: {what}; last: {last!r}")


class Broker:
    def __init__(self, home, number, port, servers, class_path):
        self.number, self.port, self.log = number, port, home / f"broker{number}.log"
        self.config = home / f"broker{number}.properties"
        self.config.write_text(
            f"broker.id={number}\nlisteners=PLAINTEXT://127.0.0.1:{port}\n"
            f"log.dirs={home / f'broker{number}'}\n"
            f"zookeeper.connect={servers}/kafka\nzookeeper.session.timeout.ms=18000\n"
            "zookeeper.connection.timeout.ms=60000\noffsets.topic.replication.factor=2\n"
            "offsets.topic.num.partitions=2\ngroup.initial.rebalance.delay.ms=0\n"
        )
        self.command = [
            *["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
            f"-Dlog4j.configuration=file:{HERE / 'log4j.properties'}",
            *["-cp", class_path, "kafka.Kafka", str(self.config)],
        ]
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def end(self, how):
        how(self.process)
        self.process.wait(WAIT_SECONDS)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.end(subprocess.Popen.kill)


class Cluster:
    def __init__(self, home, class_path):
        options = "tickTime=2000", "admin.enableServer=false", "4lw.commands.whitelist=*"
        self.ensemble = Ensemble(home, options)
        self.home, self.class_path = home, class_path
        self.brokers, self.records = [], 0

    def kill(self):
        for broker in self.brokers:
            broker.kill()
        self.ensemble.kill()

    # What Kafka's clients see.

    def client(self, kind, **more):
        there = [broker for broker in self.brokers if broker.process.poll() is None]
        addresses = [f"127.0.0.1:{broker.port}" for broker in there]
        return until("a broker", lambda: kind(bootstrap_servers=addresses, **more))

    def admin(self, action):
        """What `action` gives, once there is a broker that serves it."""

        def act():
            admin = self.client(KafkaAdminClient)
            try:
                return action(admin)
            finally:
                admin.close()

        return until("an answer of a broker", act)

    def change(self, action, done):
        """As `admin`; the error `done` says that an answer was lost and the change was made."""

        def act(admin):
            try:
                action(admin)
            except done:
                pass
            return True

        self.admin(act)

    def make(self, topic, partitions):
        options = {"num_partitions": partitions, "replication_factor": 2}
        self.change(lambda admin: admin.create_topics({topic: options}), TopicAlreadyExistsError)
        until("all in sync", lambda: self.in_sync(topic) == [2] * partitions)

    def in_sync(self, topic):
        """How many replicas of each partition are in sync."""
        (found,) = self.admin(lambda admin: admin.describe_topics([topic]))
        return [len(partition["isr_nodes"]) for partition in found["partitions"]]

    def produce_and_consume(self, topic):
        """Some more records; all so far are there."""
        producer = self.client(KafkaProducer, acks="all", retries=100)
        sent = [producer.send(topic, b"%d" % (self.records + i)) for i in range(200)]
        for one in sent:
            one.get(WAIT_SECONDS)
        producer.close()
        self.records += len(sent)
        consumer = self.client(KafkaConsumer, auto_offset_reset="earliest")
        partitions = until("partitions", lambda: consumer.partitions_for_topic(topic))
        consumer.assign([TopicPartition(topic, number) for number in partitions])
        values = []

        def consume():
            for records in consumer.poll(timeout_ms=1000).values():
                values.extend(int(record.value) for record in records)
            return len(set(values)) >= self.records

        until(f"{self.records} records", consume)
        consumer.close()
        # A producer that sends again after a broken connection may have sent twice.
        assert sorted(set(values)) == list(range(self.records)), sorted(values)

    # What they keep in the server.

    def node(self, path):
        return self.kept.get(f"/kafka{path}")

    def has(self, path):
        return self.kept.exists(f"/kafka{path}") is not None

    def children(self, path):
        return sorted(self.kept.get_children(f"/kafka{path}"))

    def controller(self):
        data, _ = self.node("/controller")
        found = [broker for broker in self.brokers if b'"brokerid":%d,' % broker.number in data]
        return found[0]

    def other(self, broker):
        return next(one for one in self.brokers if one is not broker)

    def __iter__(self):
        """Yields after each check what it was."""
        self.ensemble.start()
        servers, base = self.ensemble.connect_string(), process.free_ports(2)
        self.brokers = [
            Broker(self.home, i + 1, base + i, servers, self.class_path) for i in range(2)
        ]
        self.kept = KazooClient(servers, timeout=60)
        self.kept.start()
        for broker in self.brokers:
            broker.start()
        until("two brokers", lambda: self.children("/brokers/ids") == ["1", "2"])
        until("a controller", lambda: self.controller())
        yield "two brokers register and elect a controller"

        self.make("first", 6)
        self.produce_and_consume("first")
        yield "a topic is made, written and read"

        owners = [self.node(f"/brokers/ids/{number}")[1].ephemeralOwner for number in (1, 2)]
        epoch = self.node("/controller_epoch")[0]
        servers = [*self.ensemble.in_mode("leader"), *self.ensemble.members]
        for number, server in enumerate(dict.fromkeys(servers), 1):
            server.kill()
            if HAS_ONE_ADDRESS:
                server.start()
            self.produce_and_consume("first")
            self.make(f"after{number}", 3)
            if not HAS_ONE_ADDRESS:
                server.start()
            self.kept.retry(self.kept.sync, "/")
            assert [self.node(f"/brokers/ids/{i}")[1].ephemeralOwner for i in (1, 2)] == owners
            assert self.node("/controller_epoch")[0] == epoch
        yield "each server is killed and started: sessions, controller and topics are still there"

        change = ConfigResource(ConfigResourceType.TOPIC, "first", {"retention.ms": "600000"})
        self.admin(lambda admin: admin.alter_configs([change]) or True)
        assert b'"retention.ms":"600000"' in self.node("/config/topics/first")[0]
        self.change(lambda admin: admin.create_partitions({"first": 8}), InvalidPartitionsError)
        until("eight partitions", lambda: self.in_sync("first") == [2] * 8)
        yield "a topic's settings and partitions are changed"

        stopped = self.controller()
        stopped.end(subprocess.Popen.terminate)
        left = self.other(stopped)
        until("another controller", lambda: self.controller() is left)
        assert self.children("/brokers/ids") == [str(left.number)]
        until("the other leads", lambda: self.in_sync("first") == [1] * 8)
        self.produce_and_consume("first")
        yield "the controller stops: the other broker takes its place"

        stopped.start()
        until("two brokers", lambda: self.children("/brokers/ids") == ["1", "2"])
        until("all in sync", lambda: self.in_sync("first") == [2] * 8)
        yield "a broker comes back"

        killed = self.controller()
        killed.kill()
        left = self.other(killed)
        until("its session expires", lambda: self.children("/brokers/ids") == [str(left.number)])
        until("another controller", lambda: self.controller() is left)
        until("the other leads", lambda: self.in_sync("first") == [1] * 8)
        self.produce_and_consume("first")
        yield "the controller is killed: its session expires, the other broker takes its place"

        killed.start()
        until("all in sync", lambda: self.in_sync("after1") == [2] * 3)
        self.change(lambda admin: admin.delete_topics(["after1"]), UnknownTopicOrPartitionError)
        until("the topic is gone", lambda: not self.has("/brokers/topics/after1"))
        yield "a topic is deleted"
        self.kept.stop()
        self.kept.close()


def main(class_path, last=None):
    passed = failed = 0
    started, done = time.monotonic(), "the start"
    with tempfile.TemporaryDirectory(prefix="foreign-") as home:
        cluster = Cluster(pathlib.Path(home), pathlib.Path(class_path).read_text().strip())
        try:
            for done in cluster:
                passed += 1
                print(f"{done} ({time.monotonic() - started:.1f} s)", flush=True)
                if last and done.startswith(last):
                    break
        except Exception:
            failed += 1
            print(cluster.ensemble.output())
            for log in pathlib.Path(home).glob("*.log"):
                tail = log.read_text(errors="replace")[-20_000:]
                print(f"--- {log} ---\n{tail}")
            # Behind the logs, where it is found.
            print(f"FAILED after: {done}")
            traceback.print_exc(file=sys.stdout)
        finally:
            cluster.kill()
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main(*sys.argv[1:]))
