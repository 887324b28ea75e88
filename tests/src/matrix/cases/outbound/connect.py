"""Connects to targets: connect.py WAY PORTS HOSTS...

WAY: at-once (all at the same time), in-turn (with an answer waited for), peers (each host at a port of its own, but those
that answer). PORTS: 22, 1-300, or 80,443. HOSTS: 20.7.0.1-200.
"""

import select
import socket
import sys
import time

WAIT = 0.3


def numbers(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def hosts(texts):
    for text in texts:
        net, _, last = text.rpartition(".")
        yield from (f"{net}.{host}" for host in numbers(last))


def begin(host, port):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((host, port))
    return connection


def finish(connections):
    end = time.monotonic() + WAIT
    waiting = list(connections)
    while waiting and time.monotonic() < end:
        _, ready, _ = select.select([], waiting[:900], [], 0.05)
        for connection in ready:
            try:
                connection.sendall(b"hello\n")
                connection.settimeout(0.2)
                connection.recv(16)
            except OSError:
                pass
        waiting = [connection for connection in waiting if connection not in ready]
    for connection in connections:
        connection.close()


def main():
    way, ports, targets = sys.argv[1], list(numbers(sys.argv[2])), list(hosts(sys.argv[3:]))
    if way == "peers":
        alive = ports[0]
        pairs = [
            (host, alive if host.startswith("20.8.") else 10_000 + place * 97)
            for place, host in enumerate(targets)
        ]
    else:
        pairs = [(host, port) for host in targets for port in ports]
    if way == "in-turn":
        for host, port in pairs:
            finish([begin(host, port)])
    else:
        finish([begin(host, port) for host, port in pairs])


main()
