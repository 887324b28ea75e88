"""A tracker of BitTorrent with a torrent of its own: tracker.py ADDRESS FILE

Writes the torrent into FILE, and names to each client 300 peers: 30 that live, 120 whose host refuses, each at a port of
its own, and 150 that do not answer. Those that live shake hands, and have nothing.
"""

import http.server
import socket
import struct
import sys
import threading

PORT, PEER_PORT = 6969, 6881


def bencoded(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(bencoded(key) + bencoded(value[key]) for key in sorted(value)) + b"e"


def peers():
    for host in range(1, 31):
        yield f"20.8.0.{host}", PEER_PORT
    for host in range(31, 151):
        yield f"20.8.0.{host}", 10_000 + host * 97
    for host in range(1, 151):
        yield f"20.7.0.{host}", PEER_PORT if host % 3 == 0 else 20_000 + host * 91


class Tracker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        compact = b"".join(socket.inet_aton(host) + struct.pack(">H", port) for host, port in peers())
        body = bencoded({"interval": 60, "peers": compact})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def shake(connection):
    connection.settimeout(10)
    try:
        hello = connection.recv(68)
        if len(hello) == 68:
            connection.sendall(hello[:48] + b"-XX0001-abcdefghijkl")
        while connection.recv(1024):
            pass
    except OSError:
        pass
    connection.close()


def live():
    peer = socket.create_server(("", PEER_PORT), backlog=64)
    while True:
        connection, _ = peer.accept()
        threading.Thread(target=shake, args=(connection,), daemon=True).start()


def main():
    address, path = sys.argv[1:]
    info = {"name": "nothing", "piece length": 16_384, "length": 16_384 * 100, "pieces": bytes(20 * 100)}
    with open(path, "wb") as torrent:
        torrent.write(bencoded({"announce": f"http://{address}:{PORT}/announce", "info": info}))
    threading.Thread(target=live, daemon=True).start()
    http.server.ThreadingHTTPServer(("", PORT), Tracker).serve_forever()


main()
