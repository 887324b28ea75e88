"""Sends SYNs as whole frames that pass no queue (PACKET_QDISC_BYPASS): bypass.py INTERFACE SOURCE MAC NET HOSTS PORT"""

import socket
import struct
import sys

SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20


def checksum(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    words = (words >> 16) + (words & 0xFFFF)
    return ~(words + (words >> 16)) & 0xFFFF


def main():
    interface, source, mac, net, hosts, port = sys.argv[1:]
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    frames.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    frames.bind((interface, 0x800))
    ethernet = bytes.fromhex(mac.replace(":", "")) + bytes(6) + b"\x08\x00"
    for host in range(1, int(hosts) + 1):
        ends = socket.inet_aton(source) + socket.inet_aton(f"{net}.{host}")
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, host, 0, 64, 6, 0) + ends
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        tcp = struct.pack("!HHIIBBHHH", 40000, int(port), 1, 0, 0x50, 2, 1024, 0, 0)
        pseudo = ends + struct.pack("!HH", 6, len(tcp))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        frames.send(ethernet + ip + tcp)


main()
