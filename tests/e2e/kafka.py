"""A real Kafka broker (KRaft, single node) for tests: fetched once from its published Java packages, started on loopback
and free ports, stopped by pid. Nothing here needs more than the Python standard library, Java, Maven and kcat."""

import os
import signal
import subprocess
import time

from ..support_py import packages
from ..support_py.ports import free_port

KAFKA_VERSION = "3.9.0"


def install():
    """Path of the directory with Kafka's jars; fetched with Maven on first use."""
    return packages.fetch("kafka", KAFKA_VERSION, [f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
                                                   "org.slf4j:slf4j-reload4j:1.7.36"])


class Kafka:
    """One broker. Data lives below `directory`; stop() and start() again keep it and its port. A pickled copy speaks to the same broker, and
    does not stop it."""

    def __init__(self, directory, heap="384m"):
        self.directory = os.path.abspath(directory)
        self.heap = heap
        self.port = free_port()
        self.controller_port = free_port()
        self.process = None
        self.lib = install()
        os.makedirs(self.directory, exist_ok=True)
        self._configure()

    def __getstate__(self):
        return {**self.__dict__, "process": None}

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def _java(self, *args):
        log4j = os.path.join(self.directory, "log4j.properties")
        return ["java", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4", f"-Dlog4j.configuration=file:{log4j}",
                "-cp", os.path.join(self.lib, "*"), *args]

    def _configure(self):
        with open(os.path.join(self.directory, "log4j.properties"), "w") as f:
            f.write("log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
                    "log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %m%n\n")
        with open(os.path.join(self.directory, "server.properties"), "w") as f:
            f.write(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{self.controller_port}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self.directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
log.segment.bytes=268435456
""")
        subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c",
                                  os.path.join(self.directory, "server.properties"), "--ignore-formatted"),
                       check=True, stdout=subprocess.DEVNULL)

    def start(self):
        self.launch()
        return self.wait_ready()

    def launch(self):
        """Starts it, without waiting."""
        with open(os.path.join(self.directory, "broker.log"), "ab") as log:
            self.process = subprocess.Popen(self._java("kafka.Kafka", os.path.join(self.directory, "server.properties")), stdout=log, stderr=log)

    def wait_ready(self, timeout=90):
        deadline = time.time() + timeout
        while time.time() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"Kafka ended at start, see {self.directory}/broker.log")
            done = subprocess.run(["kcat", "-b", self.bootstrap, "-L", "-m", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if done.returncode == 0:
                return self
            time.sleep(0.2)
        raise RuntimeError(f"Kafka did not answer on {self.bootstrap} within {timeout} s")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def create_topic(self, name, partitions=1):
        subprocess.run(self._java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.bootstrap, "--create", "--if-not-exists",
                                  "--topic", name, "--partitions", str(partitions), "--replication-factor", "1"),
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, topic, isolation="read_committed"):
        """All values of a topic, up to its end, as a list of (partition, offset, text)."""
        out = subprocess.run(["kcat", "-b", self.bootstrap, "-t", topic, "-C", "-e", "-q", "-o", "beginning",
                              "-X", f"isolation.level={isolation}", "-f", "%p %o %s\n"], capture_output=True, text=True, timeout=120)
        rows = []
        for line in out.stdout.splitlines():
            partition, offset, text = line.split(" ", 2)
            rows.append((int(partition), int(offset), text))
        return rows
