# Runs snmpd until standard input ends: it never outlives the daemon. Arguments: those of snmpd. File descriptor 3 is its
# socket, which it takes as one of systemd's (sd_listen_fds(3)): LISTEN_PID must be its own id.
exec 4<&0
LISTEN_FDS=1 sh -c 'LISTEN_PID=$$ exec snmpd "$@"' sh "$@" </dev/null 4<&- &
snmpd=$!
{
  while read -r _; do :; done
  kill "$snmpd"
} <&4 3<&- >/dev/null 2>&1 &
reader=$!
exec </dev/null 3<&- 4<&-
wait "$snmpd"
status=$?
kill "$reader"
exit "$status"
