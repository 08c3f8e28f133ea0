#!/bin/sh
# Installs what packages.txt names and is missing, and what is named besides, as `nginx` by those who measure. Makes the
# account that root's own jobs run as. Removes nothing. Cheap when nothing is missing: every make target runs it.
# usage: ensure_packages.sh [PACKAGE...]
set -eu
cd "$(dirname "$0")/.."

job_user=stargate-job
boost=libboost1.81-dev
boost_root=build/boost # CMakeLists.txt looks here first
nginx_root=build/nginx # tools/measure/serving.py looks here

say() { echo "ensure: $*" >&2; }

fail() {
    say "$1"
    say "remedy: $2"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "not root and there is no sudo, so this cannot run: $*" \
            "run 'make ensure' once as root, then go on as yourself"
    fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@"; }

missing_packages() { # [PACKAGE...]
    wanted="$(sed 's/#.*//' packages.txt) $*"
    # shellcheck disable=SC2086 # one word a package is what we want
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' $wanted 2>/dev/null | sed -n 's/^ii *//p') || true
    for package in $wanted; do
        case "
$installed
" in
            *"
$package
"*) ;;
            *)
                case $package in
                    "$boost") [ -d $boost_root/usr/include/boost ] || echo "$package" ;;
                    nginx) [ -x $nginx_root/usr/sbin/nginx ] || echo "$package" ;;
                    *) echo "$package" ;;
                esac
                ;;
        esac
    done
}

unpack() { # PACKAGE FOLDER
    rm -rf "$2.part"
    mkdir -p "$2.part"
    (cd "$2.part" && apt-get download "$1") || fail "cannot download $1" "check the network and the package sources"
    dpkg -x "$2.part/$1"_*.deb "$2.part"
    rm -rf "$2.part"/*.deb "$2"
    mv "$2.part" "$2"
}

# An older libboost-dev and ours exclude each other, and we remove nothing. Ours is headers only: unpacked is enough.
unpack_boost() {
    say "$boost cannot stand beside what is installed: unpacking it under $boost_root"
    unpack $boost $boost_root
}

# Installed it would serve on port 80 at once; we only want to measure beside it.
unpack_nginx() {
    say "unpacking nginx under $nginx_root"
    unpack nginx $nginx_root
}

fits_beside_the_rest() { apt-get install -s -qq --no-remove --no-install-recommends "$1" >/dev/null 2>&1; }

install_packages() {
    say "installing $*"
    apt_get update -qq || say "the package lists could not be refreshed; trying with the old ones"
    list=
    for package in "$@"; do
        if [ "$package" = $boost ] && ! fits_beside_the_rest $boost; then
            unpack_boost
        elif [ "$package" = nginx ]; then
            unpack_nginx
        else
            list="$list $package"
        fi
    done
    # shellcheck disable=SC2086
    [ -z "$list" ] || apt_get install -y -qq --no-remove --no-install-recommends $list ||
        fail "some of these could not be installed:$list" "read apt's message above; packages.txt is made for Debian 12"
}

command -v dpkg-query >/dev/null ||
    fail "this is not Debian" \
        "install what packages.txt names by hand, then call cmake --preset release && ninja -C build"

missing=$(missing_packages "$@")
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing

# Only a control plane that runs as root needs the account; an ordinary user without sudo does well without.
if ! id "$job_user" >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }; then
    say "making the account $job_user"
    as_root useradd --system --user-group --create-home --home-dir /var/lib/$job_user --shell /bin/sh $job_user
fi
