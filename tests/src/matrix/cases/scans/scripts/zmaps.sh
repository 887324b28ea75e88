# zmap asks for one port only, so once for each port: zmaps.sh INTERFACE ROUTER-MAC SOURCE HOST PORT...
interface=$1 mac=$2 source=$3 host=$4
shift 4
for port; do
    zmap -q -i "$interface" -G "$mac" -S "$source" -b /dev/null -r 500 -c 1 -p "$port" "$host" || exit
done
