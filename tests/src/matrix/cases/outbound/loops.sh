# A process for each probe: loops.sh WAY NET HOSTS
# WAY: busybox (nc), bash (/dev/tcp), copies (a copy of the program for each probe), renamed (nmap under another name).
way=$1 net=$2 hosts=$3
here=$(dirname "$0")
for host in $(seq 1 "$hosts"); do
    case $way in
    busybox) busybox timeout 1 busybox nc -w 1 "$net.$host" 22 </dev/null >/dev/null 2>&1 & ;;
    bash) (timeout 1 bash -c "exec 3<>/dev/tcp/$net.$host/22") 2>/dev/null & ;;
    copies)
        cp /usr/bin/python3.11 "$here/program$host" 2>/dev/null || cp "$(readlink -f /usr/bin/python3)" "$here/program$host"
        "$here/program$host" "$here/connect.py" at-once 22 "$net.$host" &
        ;;
    renamed)
        cp -n /usr/bin/nmap "$here/backupd"
        "$here/backupd" -n -Pn -sT -p 22 --max-rtt-timeout 100ms --max-retries 0 "$net.1-$hosts" >/dev/null
        break
        ;;
    esac
done
wait
