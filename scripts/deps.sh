#!/bin/sh
# Install the Debian packages that Weir needs. Groups: build, run, demo, test, bench (what is
# measured against), kernel (for make guest-kernel); build, run and test by default, and test holds
# demo.
#
#	scripts/deps.sh [build] [run] [demo] [test] [bench] [kernel]
#
# Fast when everything is there: one dpkg-query, no network. Otherwise as root: apt-get, with its
# progress. Nothing is removed and no source is added.
set -eu

build="build-essential clang llvm clang-format libclang-rt-14-dev meson ninja-build pkg-config
	bpftool libbpf-dev libelf-dev zlib1g-dev libuv1-dev libjansson-dev libsqlite3-dev libmnl-dev
	libseccomp-dev libcap-ng-dev libssl-dev libcurl4-openssl-dev libarchive-dev node-llhttp
	libcmocka-dev musl-tools uthash-dev linux-libc-dev libidn2-dev"
run="iproute2 nftables mmdebstrap e2fsprogs quota procps util-linux openssl ca-certificates curl
	debian-archive-keyring python3 libnss-myhostname skopeo umoci lz4 kmod"
demo="knot"
test="$demo python3-pytest bind9-dnsutils mandoc tcpdump iputils-ping socat strace gdb iperf3
	qemu-system-x86 busybox-static linux-image-cloud-amd64 cpio zstd runc bubblewrap
	hyperfine wrk docker-registry chromium"
bench="runc conmon bubblewrap libnftables1 iptables iperf3 dnsperf unbound dnsmasq-base knot haproxy
	nginx-light wrk"

groups=${*:-build run test}
want=
for group in $groups; do
	case $group in
	build) want="$want $build" ;;
	run) want="$want $run" ;;
	demo) want="$want $demo" ;;
	test) want="$want $test" ;;
	bench) want="$want $bench" ;;
	kernel) want="$want $kernel" ;;
	*) echo "deps: no group called $group (build, run, demo, test, bench, kernel)" >&2; exit 2 ;;
	esac
done

missing=
have=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^ii *//p' |
	tr '\n' ' ') "
for package in $want; do
	case $have in
	*" $package "*) ;;
	*) missing="$missing $package" ;;
	esac
done
# Images get node from npm's packages, and the clients under test are npm packages: any npm will do,
# the distribution's if there is none.
command -v npm >/dev/null 2>&1 || missing="$missing npm"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: these packages are missing; install them as root:$missing" >&2
	exit 1
fi
# shellcheck disable=SC2086
set -- $missing
echo "deps: installing $# packages: $*"
export DEBIAN_FRONTEND=noninteractive
# A service that starts by itself is not wanted: these are tools.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
apt-get update -q
apt-get install -y -q --no-install-recommends "$@"
