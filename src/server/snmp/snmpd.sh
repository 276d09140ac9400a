# Runs snmpd until standard input ends: it never outlives the daemon. Arguments: those of snmpd.
exec 3<&0
snmpd "$@" </dev/null 3<&- &
snmpd=$!
{
  while read -r _; do :; done
  kill "$snmpd"
} <&3 >/dev/null 2>&1 &
reader=$!
exec </dev/null 3<&-
wait "$snmpd"
status=$?
kill "$reader"
exit "$status"
