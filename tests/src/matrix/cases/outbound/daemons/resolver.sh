# Zones and configurations of a root server and of the servers below it (nsd), of a resolver (unbound), and names to ask it for. Of the
# two servers of each zone one is there: resolver.sh DIRECTORY ZONES
set -e
dir=$1 zones=$2
soa='@ 60 SOA ns.root. admin.root. 1 60 60 60 60'
cd "$dir"
for role in root leaf; do
    cat > "$role.nsd" << NSD
server:
  server-count: 1
  username: ""
  zonesdir: ""
  database: ""
  pidfile: "$dir/$role.pid"
  xfrdfile: "$dir/$role.xfrd"
  zonelistfile: "$dir/$role.list"
NSD
done
echo '  ip-address: 20.8.0.1' >> root.nsd
seq 1 "$zones" | sed 's/^/  ip-address: 20.8.1./' >> leaf.nsd
for role in root leaf; do
    printf 'remote-control:\n  control-enable: no\n' >> "$role.nsd"
done
printf 'zone:\n  name: "."\n  zonefile: "%s/root.zone"\n' "$dir" >> root.nsd
printf '%s\n@ 60 NS ns.root.\nns.root. 60 A 20.8.0.1\n' "$soa" > root.zone
for zone in $(seq 1 "$zones"); do
    servers="a.zone$zone. 60 A 20.8.1.$zone
b.zone$zone. 60 A 20.7.1.$zone"
    delegation="zone$zone. 60 NS a.zone$zone.
zone$zone. 60 NS b.zone$zone."
    printf '%s\n%s\n' "$delegation" "$servers" >> root.zone
    {
        printf '%s\n%s\n%s\n' "$soa" "$delegation" "$servers"
        for host in 1 2 3; do echo "www$host 60 A 192.0.2.$host"; done
        # Too long for a datagram: it is asked for once more by TCP.
        for part in 1 2 3 4 5 6 7 8 9; do echo "long 60 TXT \"$(printf '%0200d' "$part")\""; done
    } > "zone$zone.zone"
    printf 'zone:\n  name: "zone%s."\n  zonefile: "%s/zone%s.zone"\n' "$zone" "$dir" "$zone" >> leaf.nsd
    for host in 1 2 3; do echo "www$host.zone$zone. A"; done
    echo "long.zone$zone. TXT"
done > names
printf '. 60 NS ns.root.\nns.root. 60 A 20.8.0.1\n' > hints
cat > unbound.conf << UNBOUND
server:
  directory: "$dir"
  username: ""
  chroot: ""
  pidfile: "$dir/unbound.pid"
  use-syslog: no
  interface: 127.0.0.1
  do-ip6: no
  do-daemonize: no
  module-config: "iterator"
  root-hints: "$dir/hints"
remote-control:
  control-enable: no
UNBOUND
