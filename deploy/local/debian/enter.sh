#!/bin/sh
# Run a command in a root file system that stays as it is: what is written there goes to memory.
#   enter.sh SCRATCH ROOTFS CACHE REPOSITORY COMMAND...
# Started in a mount namespace of its own, with which all of these mounts end.
set -eu
scratch=$1 rootfs=$2 cache=$3 repository=$4
shift 4

over=$scratch/over
mkdir "$over"
mount -t tmpfs tmpfs "$over"
mkdir "$over/upper" "$over/work" "$over/root"
root=$over/root
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$over/upper,workdir=$over/work" "$root"
for folder in /proc /sys /dev; do
  mount --rbind "$folder" "$root$folder"
done
for folder in /tmp "$cache" "$repository"; do
  mkdir -p "$root$folder"
  mount --bind "$folder" "$root$folder"
done
for file in /etc/resolv.conf /etc/hosts ${AUTHORITIES:-}; do
  mkdir -p "$root${file%/*}"
  [ -e "$root$file" ] || : > "$root$file"
  mount --bind "$file" "$root$file"
done
# The base has no compiled files; without them each start would compile the standard library.
export PYTHONPYCACHEPREFIX="$cache/python-compiled"
unset PYTHONHOME VIRTUAL_ENV
exec chroot "$root" env -C "$repository" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
