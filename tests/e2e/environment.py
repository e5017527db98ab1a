"""What a test gets: a directory, Kafka, seeded randomness, and whatever it starts is torn down after it."""

import os
import random

from . import cluster as cluster_module
from .cluster import Cluster
from .kafka import Kafka
from ..support_py import parallel
from ..support_py.logs import find_reports


class Environment:
    def __init__(self, test, directory, seed=None, ask=None):
        self.test, self.name = test, test.name
        self.directory = directory
        self.seed = seed
        self.random = random.Random(f"{seed}-{test.name}")
        self.ask = ask
        self.shared_kafka = None
        self.clusters = []
        self.closers = []

    def kafka(self):
        """The broker that tests share, one after the other; a test that hurts it makes its own with Kafka(directory)."""
        if self.shared_kafka is None:
            self.shared_kafka = self.ask("kafka").wait_ready()
        return self.shared_kafka

    def topic(self, name):
        return f"{self.name}-{name}".replace("_", "-")

    def cluster(self, taskmanagers=1, slots=2, config=None):
        cluster = Cluster(os.path.join(self.directory, f"cluster-{len(self.clusters)}"), slots, config)
        self.clusters.append(cluster)
        return cluster.start(taskmanagers)

    def program(self, name):
        return os.path.join(cluster_module.BIN, name)

    def closing(self, thing):
        self.closers.append(thing)
        return thing

    def end(self, passed):
        """Every process that the test started must stop on SIGTERM with 0; that is part of passing."""
        problem = None
        for thing in reversed(self.closers):
            thing.stop()
        for cluster in self.clusters:
            try:
                if passed:
                    cluster.stop()
            except AssertionError as err:
                problem = err
            finally:
                cluster.destroy()
        self.closers, self.clusters = [], []
        if passed and problem is None and not getattr(self.test.function, "crashes_on_purpose", False):
            problem = find_reports(self.directory)
        return problem


class Suite(parallel.Suite):
    """A broker for each slot: tests that run at the same time may use the same group and transactional ids."""

    def __init__(self, root, seed):
        self.root, self.seed = root, seed
        self.brokers = {}

    def environment(self, test, slot, directory, ask):
        return Environment(test, directory, self.seed, ask)

    def provide(self, what, slot):
        if slot not in self.brokers:
            self.brokers[slot] = Kafka(os.path.join(self.root, f"kafka-{slot}"))
            self.brokers[slot].launch()
        return self.brokers[slot]

    def close(self):
        for broker in self.brokers.values():
            broker.stop()
