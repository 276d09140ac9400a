#!/bin/sh
# proxy-setup.sh: lets the devices of one WalT server pass through this machine's sshd, to one address, and do nothing else.
# Written by `walt vpn setup-proxy` (walt @VERSION@). Read it, then run it as root or with sudo at hand.
#
# It makes the user walt-vpn, without password, and /home/walt-vpn/.ssh/authorized_keys with two lines, for certificates of
# the WalT server and for the key with which new devices ask for access; while the server changes a key there is a line
# more, for the new one. All may open one address (permitopen) and run one command, whatever they ask for: cat. All files
# are root's. Nothing else is changed. Run again, it changes what differs.
#
# In the end it logs in here as a device would, with keys of its own, which it takes away again.
#
# Where the user walt-vpn has another home, as that of a WalT server's own VPN, it makes walt-vpn-devices instead.
#
# Another server may use the same user. This server's lines end with a mark of their own: those alone are written, replaced
# and removed; all others stay as they are. A user walt-vpn that somebody else made keeps its shell, password and files.
#
# With --limits it also writes three files that bound what the account may use and keep revoked devices out at once (see
# "The limits" below); once they are there each run keeps them up to date. Nothing but this account is concerned.
set -eu
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

user=walt-vpn
home=/home/walt-vpn
next='@NEXT@'
cas='@CAS@' # one on each line, and during a rotation two
enrolments='@ENROLMENTS@'
mark='@MARK@' # of this server's lines: the fingerprint of its first CA
server_ca_file='@SERVER_CA_FILE@' # there on the server itself only
lines='@AUTHORIZED_KEYS@' # first those of CAs, then those of enrolment keys
written_at='@WRITTEN_AT@' # by the clock of the machine that wrote this script
written_seconds='@WRITTEN_SECONDS@' # the same in seconds since 1970
revoked='@REVOKED@' # keys of revoked devices whose certificates are still valid, with the mark; or: unknown

newline='
'

say() { printf '%s\n' "$*"; }
fail() { say "proxy-setup.sh: $*" >&2; exit 1; }
usage() {
  cat <<END
usage: proxy-setup.sh [--allow-server] [--limits] | --remove | --help
Let WalT VPN devices pass through this machine to $next.
  --allow-server  go on although this is the WalT server itself
  --limits        bound the account's sessions and processes, and keep revoked devices out at once
  --remove        remove this server's lines; and the user $user and $home, if nobody else uses them
Example: sudo sh proxy-setup.sh
END
}

action=setup allow_server=no limits=no
for option; do
  case $option in
    --allow-server) allow_server=yes ;;
    --limits) limits=yes ;;
    --remove) action=remove ;;
    -h | --help) usage; exit 0 ;;
    *) printf 'proxy-setup.sh: unknown option %s\n' "$option" >&2; usage >&2; exit 2 ;;
  esac
done

if [ "$(id -u)" -ne 0 ]; then
  [ -f "$0" ] || fail "it must run as root: save it as a file, then run that with sudo"
  command -v sudo >/dev/null || fail "it must run as root, and there is no sudo here"
  exec sudo sh "$0" "$@"
fi

exists() { id -u "$user" >/dev/null 2>&1; }
entry() { { grep "^$user:" "/etc/$1" || getent "$1" "$user" || :; } 2>/dev/null; } # passwd or group: the line of our name
passwd() { entry passwd | head -n 1 | cut -d : -f "$1"; } # number of a field of passwd(5): what the user has there
keys=$home/.ssh/authorized_keys

# --- Programs for accounts: shadow's, busybox's (Alpine) and FreeBSD's. The password is '*', which matches nothing; '!' would
# make some sshd refuse the user's keys, too.
system=$(uname -s)
if [ "$system" = Linux ] && command -v useradd >/dev/null; then
  make_group() { groupadd -r "$user"; }
  make_user() { useradd -r -g "$user" -M -d "$home" -s /bin/sh -p '*' -c "WalT VPN" "$user"; }
  set_shell() { usermod -s /bin/sh "$user"; }
  take_password() { usermod -p '*' "$user"; }
  remove_user() { userdel -f "$user"; }
  remove_group() { groupdel "$user"; }
elif command -v pw >/dev/null; then
  make_group() { pw groupadd "$user"; }
  make_user() { pw useradd "$user" -g "$user" -d "$home" -s /bin/sh -w no -c "WalT VPN"; }
  set_shell() { pw usermod "$user" -s /bin/sh; }
  take_password() { pw usermod "$user" -w no; }
  remove_user() { pw userdel "$user"; }
  remove_group() { pw groupdel "$user"; }
elif [ "$system" = Linux ] && command -v adduser >/dev/null && command -v addgroup >/dev/null && command -v chpasswd >/dev/null; then
  make_group() { addgroup -S "$user"; }
  make_user() { adduser -S -D -H -G "$user" -h "$home" -s /bin/sh -g "WalT VPN" "$user" && take_password; }
  set_shell() { fail "make /bin/sh the shell of $user in /etc/passwd, then run this again"; }
  take_password() { printf '%s:*\n' "$user" | chpasswd -e >/dev/null 2>&1; }
  remove_user() { deluser "$user"; }
  remove_group() { delgroup "$user"; }
else
  by_hand() {
    fail "this script knows no program for accounts of $system (it knows useradd of Linux, adduser of Alpine, pw of FreeBSD).
$1"
  }
  make_group() { :; }
  make_user() {
    by_hand "Make the user $user yourself, with the home $home, the shell /bin/sh, no password and the full name 'WalT VPN',
then run this again."
  }
  set_shell() { by_hand "Make /bin/sh the shell of $user yourself, then run this again."; }
  take_password() { by_hand "Take the password of $user away yourself, then run this again."; }
  remove_user() { by_hand "Its keys are removed: nobody comes in any more. Remove the user $user yourself."; }
  remove_group() { :; }
fi
lone_group() { case $(entry group) in ?*: | ?*:"$user") return 0 ;; esac; return 1; } # whether it is there, without other members

# --- Whose is what is there? Nothing is changed until that is known.
# A WalT server's own VPN has a user of this name, with another home: then ours has another name.
other_user=no
if exists && [ "$(eval "echo ~$user")" != "$home" ]; then
  other_user=yes user=walt-vpn-devices home=/home/walt-vpn-devices keys=/home/walt-vpn-devices/.ssh/authorized_keys
fi
if exists; then
  found=$(eval "echo ~$user")
  if [ "$found" != "$home" ]; then
    [ "$action" = setup ] || { say "nothing to remove: the user $user has the home $found, and is not this script's"; exit 0; }
    fail "the user $user exists already, with the home $found, so that somebody else made it.
Nothing was changed. Make another machine the proxy, or use 'walt proxy run', a relay with a port of its own."
  fi
  [ "$(id -u "$user")" -ne 0 ] || fail "the user $user is root"
fi
for path in "$home" "$home/.ssh" "$keys"; do
  [ ! -L "$path" ] || fail "$path is a symbolic link"
done

listed() { # a key, with or without a comment; keys, one on each line: whether it is one of them
  rest=${1#* } value=${rest%% *}
  case $newline$2$newline in *"$newline${1%% *} $value$newline"*) return 0 ;; esac
  return 1
}
ours() { # a line: whether it is this server's, by its mark; or as earlier versions wrote it, without one, by its key
  case $1 in *" $mark") return 0 ;; esac
  value=${1#*permitopen=\"} value=${value%%\"*}
  command=${1#*command=\"} command=${command%%\"*}
  case $command in cat | "exec cat") ;; *) return 1 ;; esac
  rules="restrict,port-forwarding,permitopen=\"$value\",permitlisten=\"127.0.0.1:1\",command=\"$command\""
  key=$1
  case $key in
    "cert-authority,principals=\"walt-vpn\",$rules "*) key=${key#*"$rules "} good=$cas ;;
    "$rules "*) key=${key#"$rules "} good=$enrolments ;;
    *) return 1 ;;
  esac
  listed "$key" "$good"
}
mine='' others='' strangers=no servers=no # servers: whether other servers of WalT VPN have lines
if [ -f "$keys" ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    if ours "$line"; then
      mine=$mine$line$newline
    else
      others=$others$line$newline
      case $line in *" walt-vpn=SHA256:"*) servers=yes ;; *) strangers=yes ;; esac
    fi
  done <"$keys"
fi
files='' # of others, in the home
for path in "$home"/* "$home"/.[!.]* "$home"/..?* "$home"/.ssh/* "$home"/.ssh/.[!.]* "$home"/.ssh/..?*; do
  case ${path#"$home"/} in .ssh | .ssh/authorized_keys | .ssh/authorized_keys.new) continue ;; esac
  if [ -e "$path" ] || [ -L "$path" ]; then files="$files $path"; fi
done
made_here=no
if exists && [ "$(passwd 5)" = "WalT VPN" ]; then made_here=yes; fi

to_disk() { sync "$1" 2>/dev/null || sync; } # a file or folder, so that a power cut leaves the old one or the new one whole
# Where files are made before they take their place: the folder is root's, so that nobody can put a link in the way.
work=$(dirname "$home")/.walt-vpn.$$
trial=no # whether the keys of the trial are in authorized_keys
running='' # processes of the trial
clean() {
  # shellcheck disable=SC2086 # each is a word
  [ -z "$running" ] || kill $running 2>/dev/null || :
  [ "$trial" = no ] || remove_trial || :
  rm -rf "$work"
}
workplace() {
  [ ! -d "$work" ] || return 0
  for left in "${work%.*}".*; do kill -0 "${left##*.}" 2>/dev/null || rm -rf "$left"; done # of a script that was killed
  mkdir -m 700 "$work"
  trap clean EXIT
  trap 'exit 1' HUP INT TERM
}
write_keys() { # text: takes the place of authorized_keys as a whole, with the owner and the mode that it has
  workplace
  if [ -f "$keys" ]; then cp -p "$keys" "$work/new"; else (umask 022 && : >"$work/new"); fi
  printf %s "$1" >"$work/new"
  if [ -f "$keys" ] && [ "$(cat "$keys")" != "$before" ]; then fail "$keys was changed meanwhile: run this again"; fi
  to_disk "$work/new"
  mv -f "$work/new" "$keys"
  to_disk "${keys%/*}"
  if command -v restorecon >/dev/null; then restorecon "$keys" || :; fi # SELinux
  before=$(cat "$keys")
}
before=''
[ ! -f "$keys" ] || before=$(cat "$keys")

# --- The limits: sshd's for this user alone, the kernel's for its processes, and the keys of revoked devices.
sshd_limits=/etc/ssh/sshd_config.d/walt-vpn.conf
process_limits=/etc/security/limits.d/walt-vpn.conf
revoked_keys=/etc/ssh/walt-vpn-revoked-keys
[ "$revoked" != unknown ] || revoked=$(grep " $mark\$" "$revoked_keys" 2>/dev/null || :)
written='# Written by proxy-setup.sh --limits (WalT VPN): it is replaced and removed by that.'
# A device needs one session on each connection, and a TCP forwarding. sshd refuses everybody who should log in as this user
# when it cannot read the file of revoked keys.
sshd_text="$written
Match User $user
  MaxSessions 1
  PermitTTY no
  AllowTcpForwarding local
  AllowAgentForwarding no
  AllowStreamLocalForwarding no
  X11Forwarding no
  RevokedKeys $revoked_keys
Match all"
process_text="$written
$user hard nproc 1024"

limited() { [ -f "$1" ] && [ "$(head -n 1 "$1")" = "$written" ]; } # file: whether we wrote it
put() { # file, text: whether it was changed
  if [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; then return 1; fi
  rm -f "$1.new"
  (umask 022 && printf '%s\n' "$2" >"$1.new") && to_disk "$1.new" && mv -f "$1.new" "$1" && to_disk "${1%/*}"
}
reload_sshd() {
  if command -v systemctl >/dev/null && { systemctl reload ssh || systemctl reload sshd; } 2>/dev/null; then return 0; fi
  pid=$(cat /run/sshd.pid /var/run/sshd.pid 2>/dev/null | head -n 1)
  if [ -n "$pid" ] && kill -HUP "$pid" 2>/dev/null; then return 0; fi
  say "note: reload sshd now"
  return 1
}
revoked_of_others() { # what other servers have in the file of revoked keys
  [ ! -f "$revoked_keys" ] || grep -v " $mark\$" "$revoked_keys" || :
}
write_revoked() { put "$revoked_keys" "$(revoked_of_others)${revoked:+$newline$revoked}" && say "updated $revoked_keys"; }
remove_limits() {
  limited "$sshd_limits" || return 0
  rm -f "$sshd_limits"
  if limited "$process_limits"; then rm -f "$process_limits"; fi
  # An sshd that still has the old configuration would let nobody in without this file.
  if reload_sshd; then rm -f "$revoked_keys"; else say "note: remove $revoked_keys after that"; fi
  say "removed the limits of $user"
}

if [ "$action" = remove ]; then
  if [ -n "$others$files" ] || { exists && [ "$made_here" = no ]; }; then
    [ -n "$mine" ] || { say "nothing to remove: $keys has no line of this server"; exit 0; }
    if [ -n "$others" ]; then write_keys "$others"; else rm -f "$keys"; fi
    revoked=''
    # The limits are those of all servers: they go with the last one. The revoked keys are each server's own.
    if [ "$servers" = no ]; then remove_limits; elif [ -f "$revoked_keys" ]; then write_revoked || :; fi
    say "removed this server's lines from $keys"
    say "kept the user $user, which somebody else made or uses; connections that are open go on until they end"
    exit 0
  fi
  removed=no
  remove_limits
  if exists; then
    rm -f "$keys" # first of all: nobody comes in any more
    # Sessions that are open end now; their processes belong to this user alone.
    if command -v pkill >/dev/null; then pkill -KILL -u "$user" || :; fi
    remove_user || fail "could not remove the user $user"
    say "removed the user $user" && removed=yes
    if lone_group; then remove_group || :; fi # where useradd's configuration leaves it
  fi
  if [ -e "$home" ]; then rm -rf "$home" && say "removed $home" && removed=yes; fi
  [ "$removed" = yes ] || say "nothing to remove"
  exit 0
fi

if [ "$allow_server" = no ] && [ -r "$server_ca_file" ]; then
  read -r type key rest <"$server_ca_file" || :
  if listed "$type $key" "$cas"; then
    fail "this is the WalT server itself (${rest:-its key} is in $server_ca_file); run this on the proxy.
If devices are to enter here all the same: proxy-setup.sh --allow-server"
  fi
fi
sshd=$(command -v sshd) || fail "there is no sshd here: install OpenSSH's server, or use 'walt proxy run' instead of this script"

# --- What this sshd says of its settings for such a user.
ask_once() { settings=$("$sshd" -T -C "user=$user,host=device.example,addr=192.0.2.1" 2>&1); }
missing() { # a folder that sshd's service makes: it is not there before the first connection where systemd listens for sshd
  folder=$(printf '%s\n' "$settings" | tr -d '\r' | sed -n 's/^Missing privilege separation directory: //p')
  [ -n "$folder" ] && mkdir -m 755 "$folder"
}
ask() {
  ask_once || { missing && ask_once; } || fail "sshd does not accept its own configuration:
$settings"
}
setting() { # keyword as sshd prints it: $now is what it has, several values with blanks between them
  now='' rest=$newline$settings$newline
  while :; do
    case $rest in *"$newline$1 "*) rest=${rest#*"$newline$1 "} ;; *) return 0 ;; esac
    now=$now${now:+ }${rest%%"$newline"*}
    rest=$newline${rest#*"$newline"}
  done
}
ask
setting permitlisten
listens=$now # empty before OpenSSH 7.8, which does not let anybody in by a line with an option that it does not know
if [ -z "$listens" ]; then
  lines=$(printf '%s\n' "$lines" | sed 's/permitlisten="127\.0\.0\.1:1",//')
fi

# --- The account.
changed=no
changed() { say "$*"; changed=yes; }
alone=yes # whether user and files are this script's, to be put right
if ! exists; then
  [ -z "$others$files" ] || fail "there is no user $user, but files of one: move $home away"
  if [ -z "$(entry group)" ]; then
    make_group || fail "could not make the group $user"
  elif ! lone_group; then
    fail "the group $user exists already and has members: $(entry group)"
  fi
  make_user || fail "could not make the user $user"
  changed "made the user $user"
elif [ "$made_here" = no ] || [ "$strangers" = yes ] || [ -n "$files" ]; then
  alone=no
  shell=$(passwd 7)
  case $shell in */nologin | */false)
    fail "the user $user, which somebody else made or uses, has the shell $shell, and devices need one that runs a command.
Nothing was changed. If nobody else needs that shell: usermod -s /bin/sh $user" ;;
  esac
fi
if [ "$alone" = yes ]; then
  if [ "$(passwd 7)" != /bin/sh ]; then
    set_shell && changed "changed the shell of $user to /bin/sh, which runs the forced command"
  fi
  if [ -r /etc/shadow ] && ! grep -q "^$user:\*:" /etc/shadow; then
    take_password && changed "took the password of $user away"
  fi
fi

# --- Its files: root's, so that the account can grant itself nothing.
own() { # path, mode
  [ "$alone" = yes ] || return 0
  if [ -z "$(find "$1" -prune -user 0 -group 0 -perm "$2")" ]; then
    chown 0:0 "$1" && chmod "$2" "$1" && changed "changed owner or mode of $1"
  fi
}
[ -e "$home" ] || mkdir -p "$home"
own "$home" 755
[ -e "$home/.ssh" ] || mkdir "$home/.ssh"
own "$home/.ssh" 755
if [ "$mine" != "$lines$newline" ]; then
  was=updated
  [ -e "$keys" ] || was=wrote
  write_keys "$others$lines$newline"
  changed "$was $keys"
fi
own "$keys" 644
if command -v restorecon >/dev/null; then restorecon -R "$home" || :; fi
[ "$changed" = yes ] || say "unchanged: $user may pass to $next already"
if [ "$alone" = no ]; then
  say "note: somebody else made or uses the user $user; its shell, its password, its files and all other keys were kept"
elif [ -n "$others" ]; then
  say "note: another server uses the user $user, too; its lines were kept"
fi

if [ "$limits" = yes ] || limited "$sshd_limits"; then
  for path in "$sshd_limits" "$process_limits"; do
    [ ! -e "$path" ] || limited "$path" || fail "$path is somebody else's: move it away, or do without --limits"
  done
  [ -d "${sshd_limits%/*}" ] || fail "there is no folder ${sshd_limits%/*}. Add to the end of sshd's configuration:
$sshd_text"
  write_revoked || :
  if [ -d "${process_limits%/*}" ] && put "$process_limits" "$process_text"; then say "wrote $process_limits"; fi
  if put "$sshd_limits" "$sshd_text"; then
    if problem=$(sshd -t 2>&1); then
      say "wrote $sshd_limits"
      reload_sshd || :
    else
      case $problem in *"$sshd_limits"*) rm -f "$sshd_limits"; fail "sshd does not accept $sshd_limits, which was removed again:
$problem" ;; esac
    fi
  fi
elif [ -n "$revoked" ]; then
  say "note: revoked devices may pass this proxy until their certificates end ($(printf '%s\n' "$revoked" | grep -c .) of them);
proxy-setup.sh --limits keeps them out from now on"
else
  say "note: proxy-setup.sh --limits would allow this account one session on each connection and 1024 processes"
fi

# --- Would this sshd accept it? Asked for a connection from an address that is nobody's.
ask
wrong=no
wrong() { [ "$wrong" = yes ] || say "The account is ready, but this sshd would not let devices pass:" >&2; wrong=yes; say "  - $*" >&2; }
want() { # keyword as sshd prints it, as one writes it, the value it should have, others that will do
  setting "$1"
  name=$2 best=$3
  [ -n "$now" ] || return 0 # a keyword that this version does not know
  shift 2
  for value; do [ "$now" != "$value" ] || return 0; done
  wrong "$name is '$now': it should be '$best'"
}
has() { # word, list separated by blanks and commas
  case " $2 " in *[\ ,]"$1"[\ ,]*) return 0 ;; esac
  return 1
}
matches() { # patterns, names, and what precedes "@" in a pattern counts alone, or such a pattern does not count: yes or no
  set -f
  for pattern in $1; do
    case $pattern in *@*) [ "$3" = yes ] || continue ;; esac
    for one in $2; do
      # shellcheck disable=SC2254 # it is a pattern
      case $one in ${pattern%%@*}) set +f; return 0 ;; esac
    done
  done
  set +f
  return 1
}
want pubkeyauthentication PubkeyAuthentication yes
want allowtcpforwarding AllowTcpForwarding local yes all
want disableforwarding DisableForwarding no
want forcecommand ForceCommand none
want chrootdirectory ChrootDirectory none
setting maxsessions
[ "$now" != 0 ] || wrong "MaxSessions is '0': it should be '1' or more"
setting permitopen
[ "${now:-any}" = any ] || has "$next" "$now" || wrong "PermitOpen is '$now': it should be 'any' or hold '$next'"
setting authenticationmethods
[ "${now:-any}" = any ] || case " $now " in
  *" publickey "*) ;;
  *) wrong "AuthenticationMethods is '$now': 'publickey' alone should do" ;;
esac
setting authorizedkeysfile
now=$(printf '%s\n' "$now" | sed "s|%h|$home|g; s|%u|$user|g; s|%%|%|g")
has .ssh/authorized_keys "$now" || has "$keys" "$now" || wrong "AuthorizedKeysFile is '$now': it should hold '.ssh/authorized_keys'"
for keyword in pubkeyacceptedalgorithms pubkeyacceptedkeytypes; do
  setting $keyword
  for type in ssh-ed25519 ssh-ed25519-cert-v01@openssh.com; do
    [ -z "$now" ] || has "$type" "$now" || wrong "PubkeyAcceptedAlgorithms lacks '$type'"
  done
done
setting casignaturealgorithms
[ -z "$now" ] || has ssh-ed25519 "$now" || wrong "CASignatureAlgorithms lacks 'ssh-ed25519', which signs certificates"
# "user@host" patterns: here the host counts as matching where it allows, and not where it denies.
setting allowusers
somewhere=no # whether it is accepted from some addresses only
[ -z "$now" ] || matches "$now" "$user" no || {
  somewhere=yes
  matches "$now" "$user" yes || wrong "AllowUsers is '$now': it should hold '$user'"
}
setting denyusers
! matches "$now" "$user" no || wrong "DenyUsers is '$now': it keeps out '$user'"
groups=$(id -Gn "$user")
setting allowgroups
[ -z "$now" ] || matches "$now" "$groups" no || wrong "AllowGroups is '$now': it should hold '$groups'"
setting denygroups
! matches "$now" "$groups" no || wrong "DenyGroups is '$now': it keeps out '$groups'"
if [ "$wrong" = yes ]; then
  say "Change that in sshd's configuration (for this user alone: below a line 'Match User $user', at its end), reload sshd,
and run this again." >&2
  exit 1
fi

# --- Does it? The trial: logins as a device's, with a certificate and with a key, whose lines are those of the CA and of the
# enrolment key, to this very sshd.
refuse() { # what is wrong, what to do
  say "The account is ready, but $1
$2" >&2
  exit 1
}
today=$(date +%s 2>/dev/null) || :
case $today in
  '' | *[!0-9]*) ;;
  *) [ "$today" -ge $((written_seconds - 3600)) ] || refuse "this machine's clock is wrong, so that devices would not pass.
  It shows $(date -u), and this script was written at $written_at: no certificate is valid yet." "Set the clock, and run this again." ;;
esac
if ! command -v ssh >/dev/null || ! command -v ssh-keygen >/dev/null; then
  refuse "whether devices would pass is not known: there is no ssh or no ssh-keygen here to try a login with." \
    "Install OpenSSH's client (it may be removed afterwards), and run this again."
fi
trial_text="trial $mark" # ends the lines of the trial, so that a script that was killed leaves nothing that the next would keep
remove_trial() {
  kept=''
  before=$(cat "$keys")
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *" $trial_text") ;; *) kept=$kept$line$newline ;; esac
  done <"$keys"
  write_keys "$kept"
  trial=no
}
# shellcheck disable=SC2034 # refuse_key says them
certified='a certificate' plain='the enrolment key'
make_trial() {
  workplace
  for name in ca certified plain; do ssh-keygen -q -t ed25519 -N '' -C "$trial_text" -f "$work/$name"; done
  # As the server's: it begins an hour early.
  ssh-keygen -q -s "$work/ca" -I trial -n walt-vpn -V -1h:+1h -O clear -O permit-port-forwarding "$work/certified.pub"
  rm -f "$work/ca"
  first=${lines%%"$newline"*} last=${lines##*"$newline"}
  before=$(cat "$keys")
  trial=yes
  write_keys "$before
${first%% ssh-ed25519 *} $(cat "$work/ca.pub")
${last%% ssh-ed25519 *} $(cat "$work/plain.pub")
"
}
within() { # seconds, command…: its exit status. It is ended when it takes longer.
  limit=$1
  shift
  "$@" <"$work/in" >"$work/out" 2>"$work/err" &
  job=$!
  {
    trap 'kill "$sleep"; exit' TERM
    sleep "$limit" &
    sleep=$!
    wait "$sleep" || :
    kill "$job" || :
  } >/dev/null 2>&1 &
  clock=$!
  running="$job $clock"
  status=0
  wait "$job" 2>/dev/null || status=$?
  kill "$clock" 2>/dev/null || :
  wait "$clock" 2>/dev/null || :
  running=''
  return "$status"
}
device() { # which key, more arguments: as a device connects. It types "walt".
  name=$1
  shift
  printf 'walt\n' >"$work/in"
  within 20 ssh -F /dev/null -T -a -x -l "$user" -p "$port" -o BatchMode=yes -o PreferredAuthentications=publickey \
    -o IdentitiesOnly=yes -o "IdentityFile=$work/$name" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=10 "$@" -- "$host"
}
unset SSH_AUTH_SOCK
echoes() { device "$@" && [ "$(cat "$work/out")" = walt ]; } # the forced command answers
greeted() { device "$@" && grep -q '^SSH-' "$work/out"; } # the next hop answers
forbidden() { grep -q 'administratively prohibited' "$work/err"; } # by sshd, or by a line in authorized_keys
words() { tr -d '\r' <"$work/err" | sed -e '/^Warning: Permanently added/d' -e '/^$/d' -e 's/^/  ssh: /'; }
own_sshd() { # the same with an sshd of our own, for this connection alone, whose log we can read
  rm -f "$work/log"
  name=$1
  shift
  "$ask" "$name" "$@" -o "ProxyCommand=$sshd -i -E '$work/log' -o LogLevel=VERBOSE"
}
refuse_key() { # which key, more arguments of ssh: why it does not get through, in the words of ssh and of sshd
  eval "said=\$$1"
  said="devices with $said would not pass this sshd.
$(words)"
  if [ "$own" = no ] && own_sshd "$@"; then
    refuse "$said" "Its configuration would let them pass: reload sshd, which has an older one, and run this again."
  fi
  said="$said
$(sed -n -e '/^Connection \(from\|closed\)/d' -e '/^Postponed/d' -e '/^Could not load host key/d' -e 's/\r*$//' -e 's/^..*$/  sshd: &/p' "$work/log" 2>/dev/null | tail -n 8)"
  case $said in
    *PAM*) cure="Let PAM admit $user from everywhere (/etc/security/access.conf, /etc/pam.d/sshd), and run this again." ;;
    *[Bb]"ad options"* | *"bad key options"*) cure="It is too old: OpenSSH 7.2 is the first that knows these lines. Use 'walt proxy run'." ;;
    *) cure="Change what keeps them out, and run this again. sshd's log may tell more." ;;
  esac
  refuse "$said" "$cure"
}
notes=''
note() { notes=$notes${notes:+$newline}"note: $*"; }
if [ "$somewhere" = yes ]; then
  note "no login was tried, because AllowUsers admits $user from some addresses only"
else
  make_trial
  setting listenaddress
  own=yes
  ask=echoes
  for at in $now; do
    port=${at##*:} host=${at%:*}
    host=${host#\[} host=${host%\]}
    case $host in 0.0.0.0) host=127.0.0.1 ;; ::) host=::1 ;; esac
    if echoes certified || ! grep -q 'connect to host' "$work/err"; then own=no; break; fi
  done
  if [ "$own" = yes ]; then note "no sshd answers here at ${now:-any address}: start it. The login was tried with one started for it"; fi
  through() { if [ "$own" = yes ]; then own_sshd "$@"; else "$ask" "$@"; fi; }
  reached=yes
  for key in certified plain; do
    ask=echoes
    through "$key" || refuse_key "$key"
    ask=greeted
    if ! through "$key" -W "$next"; then
      if forbidden; then refuse_key "$key" -W "$next"; fi
      reached=no
      why=$(tr -d '\r' <"$work/err" | sed -n 's/^channel .*open failed: //p' | head -n 1)
    fi
  done
  if [ "$reached" = no ]; then
    note "$next is not reached from here now (${why:-it says nothing as an SSH server would}): no device gets further until it is"
  fi
  remove_trial
fi
say "sshd accepts $user: devices may pass to $next"
[ "$other_user" = no ] || say "note: the user walt-vpn is somebody else's here (that of WalT's own VPN has this name). Devices use the
user $user: write it before this proxy's name, as in: walt vpn setup-node --entrypoint $user@HOST"
[ -z "$notes" ] || say "$notes"
setting maxsessions
if limited "$sshd_limits" && [ "$now" != 1 ]; then
  say "note: sshd does not read $sshd_limits. Add at the beginning of its configuration: Include ${sshd_limits%/*}/*.conf"
fi
setting allowtcpforwarding
if [ -z "$listens" ] && [ "$now" != local ]; then
  say "note: this sshd is older than OpenSSH 7.8, so that authorized_keys cannot forbid the account to listen on ports of this
machine's loopback address. To forbid that, add to the end of sshd's configuration: Match User $user, and below it
AllowTcpForwarding local"
fi
setting allowstreamlocalforwarding
case $now in
  yes | all | remote)
    say "note: authorized_keys cannot forbid the account to make UNIX sockets in folders that anybody may write to, such as
/tmp. To forbid that, add to the end of sshd's configuration: Match User $user, and below it AllowStreamLocalForwarding no" ;;
esac
