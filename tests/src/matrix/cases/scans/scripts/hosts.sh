# Runs a command for each address of a list, which is put in the place of {}: hosts.sh LIST COMMAND...
list=$1
shift
while read -r address; do
    "${@//\{\}/$address}" </dev/null
done <"$list"
exit 0
