"""Asks a SOCKS server for one connection after the other: socks.py SERVER_PORT PORT NET HOSTS"""

import socket
import struct
import sys

WAIT = 0.05


def ask(server, address, port):
    connection = socket.create_connection(("127.0.0.1", server), 2)
    connection.sendall(b"\x05\x01\x00")
    connection.recv(2)
    connection.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(address) + struct.pack("!H", port))
    connection.settimeout(WAIT)
    try:
        connection.recv(10)
    except OSError:
        pass
    return connection


def main():
    server, port, net, hosts = sys.argv[1:]
    # They stay open: whoever closes one ends the server's attempt.
    open_ones = [ask(int(server), f"{net}.{host}", int(port)) for host in range(1, int(hosts) + 1)]
    for connection in open_ones:
        connection.close()


main()
