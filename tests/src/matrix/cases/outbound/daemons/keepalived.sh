# Starts keepalived as one of two routers: keepalived.sh DIRECTORY SIDE INTERFACE PRIORITY PEER
set -e
dir=$1 side=$2 interface=$3 priority=$4 peer=$5
cat > "$dir/$side.keepalived" << KEEPALIVED
global_defs {
  script_user root
}
vrrp_instance by_multicast {
  state BACKUP
  interface $interface
  virtual_router_id 7
  priority $priority
  advert_int 0.2
  virtual_ipaddress {
    10.77.0.100/24
  }
}
vrrp_instance by_unicast {
  state BACKUP
  interface $interface
  virtual_router_id 8
  priority $priority
  advert_int 0.2
  unicast_peer {
    $peer
    20.7.0.1
    20.7.0.2
  }
  virtual_ipaddress {
    10.77.0.101/24
  }
}
KEEPALIVED
exec keepalived -n -l -D -f "$dir/$side.keepalived" -p "$dir/$side.pid" -r "$dir/$side.vrrp" -c "$dir/$side.checkers" -b "$dir/$side.bfd"
