"""Free ports for what is told its port before it listens. A port that a process has here is its own until it ends: no other test is given
it, and no outgoing connection either, because those take theirs from another range. Standard library only."""

import random
import socket

# Below the kernel's own range (net.ipv4.ip_local_port_range, from 32768 on).
LOW, HIGH = 12000, 32000
_random = random.SystemRandom()
_reserved = []


def _reserve(port):
    """A name that only one process of this machine can have, as long as it lives."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0millrace-test-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


def _is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """The first of count ports in a row."""
    for _ in range(1000):
        first = _random.randrange(LOW, HIGH - count)
        if all(_reserve(port) and _is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"there are no {count} free ports in a row between {LOW} and {HIGH}")


def free_port():
    return free_ports(1)
