#!/bin/sh
# Makes the root file system of a slim Debian image as a tar file.
# usage: bootstrap.sh SUITE MIRROR PACKAGES TARBALL    (PACKAGES: comma-separated, may be empty)
set -eu
suite=$1 mirror=$2 packages=$3 tarball=$4

scratch=$(mktemp -d "$(dirname "$tarball")/bootstrap.XXXXXX")
root=$scratch/root
# debootstrap leaves /proc mounted where it is interrupted: never delete through that mount.
trap 'umount "$root/proc" "$root/sys" 2>/dev/null || true; rm -rf --one-file-system "$scratch"' EXIT
trap 'exit 130' INT TERM

debootstrap --variant=minbase ${packages:+--include="$packages"} "$suite" "$root" "$mirror"
umount "$root/proc" "$root/sys" 2>/dev/null || true

# What the slim images of the registry leave out, now and in later installations.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/apt/apt.conf.d"
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'EOF'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
EOF
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cat >"$root/etc/apt/apt.conf.d/slim" <<'EOF'
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
EOF
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* \
    "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin \
    "$root"/var/lib/apt/lists/* "$root"/var/log/bootstrap.log "$root"/var/log/*/* \
    "$root"/tmp/* "$root"/dev/* "$root"/etc/machine-id
# The bootstrap copies the host's name and resolver; Docker gives each container its own.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"

if [ -x "$root/usr/bin/python3" ]; then
    # As in the registry's image: `python`, and pip that installs into the system.
    ln -sf /usr/bin/python3 "$root/usr/local/bin/python"
    rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
fi

tar -C "$root" --numeric-owner --one-file-system -c . >"$tarball.new"
mv "$tarball.new" "$tarball"
