#!/bin/sh
# Loads nothing.torrent of a directory until nobody has sent anything for 20 seconds, which is no success: torrent.sh DIRECTORY
aria2c -q --enable-dht=false --bt-enable-lpd=false --seed-time=0 --bt-stop-timeout=20 -d "$1/downloads" "$1/nothing.torrent"
status=$?
# 7: there were downloads that are not complete.
[ "$status" -eq 7 ] || { echo "aria2c: exit code $status" >&2; exit 1; }
