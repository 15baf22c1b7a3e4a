/* The static nft rules: see the header. */
#include "host/nft.h"
#include "host/run.h"

#define TCP_ESTABLISHED_S 8100u
#define TCP_TIME_WAIT_S	  30u

static void masquerade(struct buf *out, const char *family, struct prefix range, const char *uplink)
{
	buf_fmt(out, "\t\t%s saddr %s oifname != \"%s\" masquerade\n", family, prefix_text(range).s,
		uplink);
}

/* What tracking would hold longer than flow_patience() in datapath/weir.bpf.c ... */
static void timeout(struct buf *out, const char *l3)
{
	buf_fmt(out,
		"\tct timeout tcp-%s {\n\t\tprotocol tcp; l3proto %s;\n"
		"\t\tpolicy = { established: %u, time_wait: %u };\n\t}\n",
		l3, l3, TCP_ESTABLISHED_S, TCP_TIME_WAIT_S);
}

/* ... and the rule that gives it to a new connection. */
static void timeout_rule(struct buf *out, const char *l3, const char *family, const char *uplink)
{
	buf_fmt(out,
		"\t\tiifname \"%s\" meta nfproto %s meta l4proto tcp ct timeout set \"tcp-%s\"\n",
		uplink, family, l3);
}

static void open_up(struct buf *out, const struct prefix *allow, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_fmt(out, "\t\t%s daddr %s accept\n", allow[i].ip.family == 4 ? "ip" : "ip6",
			prefix_text(allow[i]).s);
}

int nft_script(const char *table, const char *uplink, struct prefix range4, struct prefix range6,
	const struct prefix *allow, size_t n_allow, struct buf *out)
{
	buf_fmt(out, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table);
	buf_add_c(out, "\tchain postrouting {\n"
		       "\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
	masquerade(out, "ip", range4, uplink);
	if (range6.ip.family)
		masquerade(out, "ip6", range6, uplink);
	buf_add_c(out, "\t}\n");
	timeout(out, "ip");
	timeout(out, "ip6");
	buf_add_c(out, "\tchain forward {\n"
		       "\t\ttype filter hook forward priority filter; policy accept;\n");
	timeout_rule(out, "ip", "ipv4", uplink);
	timeout_rule(out, "ip6", "ipv6", uplink);
	buf_fmt(out,
		"\t\tiifname \"%s\" accept\n"
		"\t\toifname \"%s\" ct state established,related accept\n"
		"\t\toifname \"%s\" drop\n",
		uplink, uplink, uplink);
	/* ICMP by number: a minimal Debian has no /etc/protocols to look names up in. */
	buf_fmt(out,
		"\t}\n\tchain input {\n"
		"\t\ttype filter hook input priority filter; policy accept;\n"
		"\t\tiifname != \"%s\" accept\n"
		"\t\tct state established,related accept\n"
		"\t\tmeta l4proto { 1, 58 } accept\n",
		uplink);
	open_up(out, allow, n_allow);
	buf_add_c(out, "\t\tdrop\n\t}\n}\n");
	return buf_failed(out);
}

int nft_load(struct str script, struct err *err)
{
	static const char *const argv[] = { "nft", "-f", "-", NULL };

	return run_program(argv, script, NULL, err);
}

bool nft_present(const char *table)
{
	const char *const argv[] = { "nft", "list", "table", "inet", table, NULL };

	return run_program(argv, STR_NONE, NULL, NULL) == 0;
}

int nft_remove(const char *table, struct err *err)
{
	char script[128];

	/* Declared first, so that removing it always finds one. */
	snprintf(script, sizeof(script), "table inet %s\ndelete table inet %s\n", table, table);
	return nft_load(str_c(script), err);
}

int nft_foreign_drops(struct str listing, const char *table, struct buf *out)
{
	struct str in_table = STR_NONE, in_chain = STR_NONE;
	char own[64];

	snprintf(own, sizeof(own), "inet %s", table);
	while (listing.n) {
		struct str line = str_trim(str_cut(&listing, '\n'));

		if (str_starts(line, STR("table "))) {
			in_table = str_trim(str_skip(line, 6));
			if (str_ends(in_table, STR("{")))
				in_table = str_trim(str_n(in_table.p, in_table.n - 1));
		} else if (str_starts(line, STR("chain "))) {
			in_chain = str_skip(line, 6);
			in_chain = str_cut(&in_chain, ' ');
		} else if (str_starts(line, STR("type filter hook forward ")) &&
			   str_ends(line, STR("policy drop;")) && !str_eq_c(in_table, own)) {
			buf_fmt(out, "table " STR_FMT " chain " STR_FMT "\n", STR_ARG(in_table),
				STR_ARG(in_chain));
		}
	}
	return buf_failed(out);
}

int nft_find_drops(const char *table, struct buf *out, struct err *err)
{
	static const char *const argv[] = { "nft", "list", "chains", NULL };
	auto_buf struct buf listing = BUF_MAX(1 << 20);
	int r = run_program(argv, STR_NONE, &listing, err);

	return r < 0 ? r : nft_foreign_drops(buf_str(&listing), table, out);
}
