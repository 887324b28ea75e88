"""Sends SYNs that scapy makes to ports of a host, and takes what comes back: syns.py INTERFACE HOST FIRST LAST"""

import sys

from scapy.all import IP, TCP, conf, sr

conf.verb = 0
interface, host, first, last = sys.argv[1:]
conf.route.resync()
sr(IP(dst=host) / TCP(dport=(int(first), int(last)), flags="S"), iface=interface, timeout=1)
