"""Connects to ports of a host, or of all hosts of a network, at once: connects.py HOST|NETWORK PORT|FIRST-LAST..."""

import asyncio
import ipaddress
import sys


async def connect(host, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        pass


def ports(words):
    for word in words:
        first, _, last = word.partition("-")
        yield from range(int(first), int(last or first) + 1)


async def main(hosts, words):
    hosts = [str(host) for host in ipaddress.ip_network(hosts).hosts()]
    await asyncio.gather(*(connect(host, port) for port in ports(words) for host in hosts))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
