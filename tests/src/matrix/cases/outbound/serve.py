"""Answers at ports of all addresses: serve.py PORT..."""

import selectors
import socket
import sys

selector = selectors.DefaultSelector()
for port in sys.argv[1:]:
    listener = socket.create_server(("", int(port)), backlog=512)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, True)
while True:
    for key, _ in selector.select():
        if key.data:
            client, _ = key.fileobj.accept()
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ, False)
            continue
        try:
            heard = key.fileobj.recv(1024)
            if heard:
                key.fileobj.send(b"welcome\n")
                continue
        except OSError:
            pass
        selector.unregister(key.fileobj)
        key.fileobj.close()
