#!/bin/sh
# Install the Debian packages that the end-to-end tests and the benchmarks drive.
#
# Quick when all is there. As root with apt the missing ones are installed; otherwise they are named on standard
# error and the tests that need them are skipped. Either way the exit code is 0: `make test` runs what it can.
set -u
cd "$(dirname "$0")"

# program:package. The programs are what the tests look for, so they decide whether a package is missing.
NEEDS="skopeo:skopeo umoci:umoci runc:runc podman:podman buildah:buildah containerd:containerd dockerd:docker.io
docker:docker.io docker-registry:docker-registry mmdebstrap:mmdebstrap busybox:busybox-static wrk:wrk ip:iproute2
nsenter:util-linux setpriv:util-linux"

# The directories that the tests search (tests/e2e/sandbox.py), Debian's before any other.
PATH="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
export PATH

missing_packages() {
    for need in $NEEDS; do
        command -v "${need%%:*}" >/dev/null 2>&1 || echo "${need##*:}"
    done | sort -u | tr '\n' ' '
}

announce() {
    echo "==============================================================================" >&2
    echo "tests/e2e: $1" >&2
    echo "==============================================================================" >&2
}

missing=$(missing_packages)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    announce "LEFT OUT, needs root and apt to install: $missing"
    exit 0
fi

announce "installing $missing"
# A package must not start its daemon (docker, containerd, docker-registry): the tests run their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
install() {
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}
# A machine's package lists may be missing or stale; fetching them costs 2 s, so only then.
install || { apt-get update -q >&2 && install; } || announce "apt failed"

missing=$(missing_packages)
[ -z "$missing" ] || announce "LEFT OUT, could not be installed: $missing"
exit 0
