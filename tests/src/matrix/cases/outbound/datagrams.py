"""Sends a datagram to each host: datagrams.py PORT HOSTS..."""

import socket
import sys

sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for text in sys.argv[2:]:
    net, _, last = text.rpartition(".")
    first, _, end = last.partition("-")
    for host in range(int(first), int(end or first) + 1):
        sender.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01", (f"{net}.{host}", int(sys.argv[1])))
