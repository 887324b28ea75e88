# Connects to ports of a host one after another, by bash alone: connects.sh HOST PORT|FIRST-LAST...
host=$1
shift
for ports; do
    for port in $(seq "${ports%-*}" "${ports#*-}"); do
        timeout 1 bash -c "</dev/tcp/$host/$port" 2>/dev/null
    done
done
exit 0
