# Runs dnsmasq for whoever is at the other end of standard input. The first line is the path of its configuration. At
# each further line dnsmasq reads its hosts again. When the input ends, so does dnsmasq: it never outlives the daemon.
# When dnsmasq or the reader of the input ends, whoever killed it, both do.
read -r configuration || exit 0
exec 3<&0
trap : CHLD # so that `wait` returns also when the reader ends
dnsmasq --keep-in-foreground --conf-file="$configuration" --pid-file= </dev/null >/dev/null 3<&- &
dnsmasq=$!
{
  trap - CHLD
  while read -r _; do kill -HUP "$dnsmasq"; done
  kill "$dnsmasq"
} <&3 >/dev/null 2>&1 &
reader=$!
exec </dev/null 3<&-
wait "$dnsmasq"
status=$?
kill "$reader" "$dnsmasq" 2>/dev/null
wait "$dnsmasq"
exit "$status"
