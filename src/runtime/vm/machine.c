/* QEMU's command line: see the header. Pure: tests read what it makes. */
#include <stdarg.h>
#include "bpf/maps.h"
#include "runtime/vm/accel.h"
#include "runtime/vm/machine.h"

/* One argument. */
static void put(struct machine_line *l, const char *fmt, ...) _printf_(2, 3);
static void put(struct machine_line *l, const char *fmt, ...)
{
	size_t room = sizeof(l->text) - l->used;
	va_list ap;
	int n;

	if (l->n + 1 >= MACHINE_ARGS_MAX)
		l->used = sizeof(l->text);
	if (l->used == sizeof(l->text))
		return;
	va_start(ap, fmt);
	n = vsnprintf(l->text + l->used, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) {
		l->used = sizeof(l->text); /* remembered: nothing more is put */
		return;
	}
	l->argv[l->n++] = l->text + l->used;
	l->used += (size_t)n + 1;
}

static void put_disk(struct machine_line *l, const char *name, int fd, bool writable)
{
	put(l, "-add-fd");
	put(l, "fd=%d,set=%d", fd, fd);
	put(l, "-blockdev");
	put(l, "driver=file,node-name=%s-file,filename=/dev/fdset/%d,read-only=%s,locking=off", name,
		fd, writable ? "off" : "on");
	put(l, "-blockdev");
	put(l, "driver=raw,node-name=%s,file=%s-file,read-only=%s,discard=%s", name, name,
		writable ? "off" : "on", writable ? "unmap" : "ignore");
	put(l, "-device"); /* where the host has no room the guest hears so, and is not stopped */
	put(l, "virtio-blk-device,drive=%s,serial=%s,werror=report,rerror=report", name, name);
}

/* What the guest's first process sets on eth0 (slotnet.h). Addresses may come with a wake instead. */
static int net_words(const struct slotnet_plan *p, char *text, size_t size)
{
	char own[200] = "", ip6[64] = "";
	int n;

	if (p->ip6.family)
		snprintf(ip6, sizeof(ip6), "weir.ip6=%s ", ip_text(p->ip6).s);
	if (p->ip4.family)
		snprintf(own, sizeof(own), "weir.ip4=%s %sweir.overlay=%s ", ip_text(p->ip4).s, ip6,
			ip_text(p->overlay).s);
	n = snprintf(text, size, "%sweir.overlays=%s/%u weir.mtu=%u", own, ip_text(p->overlays.ip).s,
		p->overlays.len, p->mtu);
	return n < 0 || (size_t)n >= size ? -E2BIG : 0;
}

/* An emulated processor that calls its string instructions fast has programs copy with them, byte by byte:
 * a third slower than by words, and a boot takes a tenth more instructions. */
#define TCG_MODEL "max,erms=off"

static void put_accel(struct machine_line *l, const struct machine *m)
{
	bool kvm = accel_is_kvm(m->accel);

	put(l, "-accel");
	if (kvm)
		put(l, "kvm");
	else
		put(l, "tcg,thread=multi,tb-size=%d", MACHINE_TB_MIB);
	put(l, "-cpu");
	put(l, "%s", kvm ? m->accel + strlen(ACCEL_KVM) : TCG_MODEL);
}

static void put_memory(struct machine_line *l, const struct machine *m)
{
	put(l, "-object");
	put(l, "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=%s", m->mem_mib,
		MACHINE_MEMORY, m->clone ? "off" : "on");
}

static void put_console(struct machine_line *l)
{
	put(l, "-add-fd");
	put(l, "fd=%d,set=%d", MACHINE_CONSOLE, MACHINE_CONSOLE);
	put(l, "-chardev");
	put(l, "file,id=console,path=/dev/fdset/%d,append=on", MACHINE_CONSOLE);
	put(l, "-serial");
	put(l, "chardev:console");
}

static void put_link_and_control(struct machine_line *l)
{
	static const uint8_t mac[6] = WEIR_MAC_SANDBOX;

	put(l, "-netdev");
	put(l, "tap,id=net,fd=%d", MACHINE_TAP);
	put(l, "-device");
	put(l, "virtio-net-device,netdev=net,mac=%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		mac[2], mac[3], mac[4], mac[5]);
	put(l, "-chardev");
	put(l, "socket,id=qmp,fd=%d,server=on,wait=off", MACHINE_QMP);
	put(l, "-mon");
	put(l, "chardev=qmp,mode=control");
}

int machine_line(const struct machine *m, struct machine_line *ret)
{
	struct machine_line *l = ret;
	char net[400] = "", tsc[56] = "";
	int r = m->net ? net_words(m->net, net, sizeof(net)) : 0;

	if (r < 0)
		return r;
	*l = (struct machine_line){ .n = 0 };
	put(l, "qemu-system-x86_64");
	put(l, "-nodefaults");
	put(l, "-no-user-config");
	put(l, "-no-reboot"); /* a guest that restarts has ended */
	put(l, "-display");
	put(l, "none");
	put(l, "-sandbox");
	put(l, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	put(l, "-M");
	put(l, "microvm,pit=off,pic=off,rtc=on,isa-serial=on%s", m->net ? ",memory-backend=ram" : "");
	if (m->net)
		put_memory(l, m);
	put_accel(l, m);
	put(l, "-smp");
	put(l, "%u", m->vcpus);
	put(l, "-m");
	put(l, "%u", m->mem_mib);
	put(l, "-kernel");
	put(l, MACHINE_GUEST_DIR "/kernel");
	put(l, "-initrd");
	put(l, MACHINE_GUEST_DIR "/initrd");
	put(l, "-append");
	/* KVM tells its guests the rate itself. On a busy host a guest's ticks come late, and its kernel would
	 * rather believe them than the counter: its clock would be slow. */
	if (!accel_is_kvm(m->accel))
		snprintf(tsc, sizeof(tsc), " tsc=reliable tsc_early_khz=%u", m->tsc_khz);
	put(l, "%s console=ttyS0 loglevel=1%s%s%s", m->cmdline, tsc, *net ? " " : "", net);
	put_console(l);
	if (m->net) {
		put_disk(l, "root", MACHINE_ROOT, false);
		put_disk(l, "disk", MACHINE_DISK, true);
		put_link_and_control(l);
	}
	if (m->incoming) {
		put(l, "-S");
		put(l, "-incoming");
		put(l, "defer");
	}
	return l->used == sizeof(l->text) ? -E2BIG : 0;
}
