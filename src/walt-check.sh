#!/bin/sh
# Says whether this machine can run walt, and why not: where it cannot, walt itself has no chance to say anything.
#   sh walt-check.sh [binary]
# Without a binary, the one beside this script is tried that is for this machine.

fail() {
  echo "walt-check.sh: $1" >&2
  echo "$2" >&2
  exit 1
}

machine=$(uname -m)
case $machine in
  x86_64) name=walt-linux-x64 kind=62 loader=/lib64/ld-linux-x86-64.so.2 ;;
  aarch64) name=walt-linux-arm64 kind=183 loader=/lib/ld-linux-aarch64.so.1 ;;
  *) fail "walt runs on x86_64 and aarch64, and this machine is $machine" \
    "Use another machine, or a 64-bit system (kernel and programs) on this one." ;;
esac
if [ "$machine" = x86_64 ] && ! grep -qw sse4_2 /proc/cpuinfo; then
  fail "this processor has no SSE4.2: walt ends with \"Illegal instruction\"" \
    "Use a machine of 2010 or later (Intel Nehalem, AMD Bulldozer or Jaguar). In a virtual machine choose a processor like the host's (QEMU: -cpu host), not qemu64 or kvm64."
fi
[ -e "$loader" ] || fail "there is no $loader: this system has no glibc for $machine" \
  "Use a 64-bit system with glibc, such as Debian. Alpine has musl, and a 32-bit system cannot run walt on a 64-bit kernel either."

binary=${1:-$(dirname "$0")/$name}
[ -f "$binary" ] || fail "there is no $binary" "Name the binary: sh walt-check.sh ./$name"
found=$(od -An -tu2 -j18 -N2 "$binary" | tr -d ' ')
[ "$found" = "$kind" ] || fail "$binary is not for this machine, which is $machine (its ELF machine is $found, not $kind)" \
  "Copy $name to this machine."
[ -x "$binary" ] || fail "$binary may not be executed" "chmod +x $binary"
if ! version=$("$binary" --version 2>&1); then
  fail "$binary does not run: $version" "See whether its file system is mounted with noexec, and whether the file is whole."
fi
echo "walt $version runs here"
