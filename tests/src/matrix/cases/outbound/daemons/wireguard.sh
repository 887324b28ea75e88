# WireGuard in user space, with a /run of its own for its socket.
# wireguard.sh keys DIRECTORY                keys and configurations of a peer that is there, and of one with nine more that are away
# wireguard.sh run DIRECTORY SIDE ADDRESS    one of the two, until it is ended
set -e
way=$1 dir=$2
cd "$dir"
umask 077
if [ "$way" = keys ]; then
    for side in here there; do
        wg genkey > "$side.key"
        wg pubkey < "$side.key" > "$side.pub"
    done
    cat > there.conf << THERE
[Interface]
PrivateKey = $(cat there.key)
ListenPort = 51820
[Peer]
PublicKey = $(cat here.pub)
AllowedIPs = 10.99.0.1/32
THERE
    {
        printf '[Interface]\nPrivateKey = %s\n' "$(cat here.key)"
        printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.99.0.2/32\nEndpoint = 10.77.0.2:51820\nPersistentKeepalive = 1\n' "$(cat there.pub)"
        for peer in 1 2 3 4 5 6 7 8 9; do
            printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.99.1.%s/32\n' "$(wg genkey | wg pubkey)" "$peer"
            printf 'Endpoint = 20.7.0.%s:51820\nPersistentKeepalive = 1\n' "$peer"
        done
    } > here.conf
    exit
fi
side=$3 address=$4
mount -t tmpfs none /run
WG_PROCESS_FOREGROUND=1 wireguard-go -f "wg-$side" &
for _ in $(seq 100); do
    [ -S "/run/wireguard/wg-$side.sock" ] && break
    sleep 0.1
done
wg setconf "wg-$side" "$side.conf"
ip address add "$address" dev "wg-$side"
ip link set "wg-$side" up
wait
