/*
 * The configuration: one setter and one printer for each kind of key (config_keys.h), then reading
 * lines, and what several keys must have in common.
 *
 * Setting is all or nothing: a value that is refused leaves the old one.
 */
#include "base/log.h"
#include "wire/config_keys.h"

static const char *const dialects[] = { "all", "createos", "opensandbox", "sandbox0" };

/* --- setting: 0 or a negative errno; -EINVAL where the value is at fault --- */

static int set_number(const struct key *k, struct str v, void *at)
{
	uint64_t n;

	if (str_u64(v, k->max, &n) < 0 || n < k->min)
		return -EINVAL;
	if (k->kind == U16)
		*(uint16_t *)at = (uint16_t)n;
	else
		*(uint32_t *)at = (uint32_t)n;
	return 0;
}

static int set_text(const struct key *k, struct str v, void *at)
{
	if (k->ok && !k->ok(v))
		return -EINVAL;
	return str_copy(at, k->size, v) < 0 ? -EINVAL : 0;
}

static int set_switch(const struct key *k, struct str v, void *at)
{
	for (int i = 0; i < 2; i++)
		if (str_eq_c(v, k->words[i])) {
			*(bool *)at = i;
			return 0;
		}
	return -EINVAL;
}

static int listen_from(struct str v, struct config_listen *ret)
{
	struct str dialect = v, addr = str_cut(&dialect, '/'), port;
	struct config_listen l = { .dialect = "all" };
	uint64_t n;
	ssize_t colon = -1;

	for (size_t i = 0; i < addr.n; i++)
		if (addr.p[i] == ':')
			colon = (ssize_t)i;
	if (colon < 0)
		return -EINVAL;
	port = str_skip(addr, (size_t)colon + 1);
	addr.n = (size_t)colon;
	if (addr.n >= 2 && addr.p[0] == '[' && addr.p[addr.n - 1] == ']') {
		addr = str_n(addr.p + 1, addr.n - 2);
		if (str_find(addr, ':') < 0)
			return -EINVAL;
	} else if (str_find(addr, ':') >= 0) { /* IPv6 wears brackets here */
		return -EINVAL;
	}
	if (ip_from(addr, &l.ip) < 0 || str_u64(port, UINT16_MAX, &n) < 0)
		return -EINVAL;
	l.port = (uint16_t)n;
	if (dialect.p) {
		size_t i = 0;

		while (i < ARRAY_SIZE(dialects) && !str_eq_c(dialect, dialects[i]))
			i++;
		if (i == ARRAY_SIZE(dialects) || str_copy(l.dialect, sizeof(l.dialect), dialect) < 0)
			return -EINVAL;
	}
	*ret = l;
	return 0;
}

static int set_listens(const struct key *k, struct str v, struct config_listens *at)
{
	struct config_listens l = { 0 };

	while (v.p) {
		struct str one = str_trim(str_cut(&v, ','));

		if (l.n == CONFIG_LISTEN_MAX || (k->plain && str_find(one, '/') >= 0) ||
			listen_from(one, &l.at[l.n++]) < 0)
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int set_ports(struct str v, struct config_ports *at)
{
	struct str last = v, first = str_cut(&last, '-');
	uint64_t a = 0, b = 0;

	if (v.n && (str_u64(first, UINT16_MAX, &a) < 0 || str_u64(last, UINT16_MAX, &b) < 0 ||
			   a == 0 || b < a))
		return -EINVAL;
	*at = (struct config_ports){ (uint16_t)a, (uint16_t)b };
	return 0;
}

static int set_prefix(const struct key *k, struct str v, struct prefix *at)
{
	struct prefix p;

	if (prefix_from(v, true, &p) < 0 || p.ip.family != k->family || p.len < k->min ||
		p.len > k->max)
		return -EINVAL;
	*at = p;
	return 0;
}

static int set_prefixes(struct str v, struct config_prefixes *at)
{
	struct config_prefixes l = { 0 };

	while (v.n) {
		if (l.n == CONFIG_LIST_MAX ||
			prefix_from(str_trim(str_cut(&v, ',')), true, &l.p[l.n++]) < 0)
			return -EINVAL;
		if (v.p && !v.n) /* "a," */
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int set_ips(struct str v, struct config_ips *at)
{
	struct config_ips l = { 0 };

	while (v.n) {
		if (l.n == ARRAY_SIZE(l.ip) || ip_from(str_trim(str_cut(&v, ',')), &l.ip[l.n++]) < 0)
			return -EINVAL;
		if (v.p && !v.n)
			return -EINVAL;
	}
	*at = l;
	return 0;
}

static int key_set(struct config *c, const struct key *k, struct str v)
{
	void *at = (char *)c + k->offset;
	int level;

	switch (k->kind) {
	case TEXT:
		return set_text(k, v, at);
	case U32:
	case U16:
		return set_number(k, v, at);
	case SWITCH:
		return set_switch(k, v, at);
	case LEVEL:
		level = log_level_from(v);
		if (level >= 0)
			*(int *)at = level;
		return level < 0 ? level : 0;
	case LISTENS:
		return set_listens(k, v, at);
	case PORTS:
		return set_ports(v, at);
	case PREFIX:
		return set_prefix(k, v, at);
	case PREFIXES:
		return set_prefixes(v, at);
	case IPS:
		return set_ips(v, at);
	}
	return -EINVAL;
}

static const struct key *key_find(struct str name)
{
	for (size_t i = 0; i < config_n_keys; i++)
		if (str_eq_c(name, config_keys[i].name))
			return &config_keys[i];
	return NULL;
}

static void key_allowed(const struct key *k, char *text, size_t size)
{
	switch (k->kind) {
	case U32:
	case U16:
		snprintf(text, size, "a number from %u to %u", k->min, k->max);
		break;
	case SWITCH:
		snprintf(text, size, "%s or %s", k->words[0], k->words[1]);
		break;
	case TEXT:
	case LEVEL:
	case LISTENS:
	case PORTS:
	case PREFIX:
	case PREFIXES:
	case IPS:
		snprintf(text, size, "%s", k->allowed);
		break;
	}
}

void config_defaults(struct config *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < config_n_keys; i++)
		key_set(c, &config_keys[i], str_c(config_keys[i].def));
}

int config_set(struct config *c, struct str assignment, struct err *err)
{
	struct str value = assignment, name = str_trim(str_cut(&value, '='));
	const struct key *k = key_find(name);
	char allowed[200];

	if (!value.p || name.n == 0)
		return err_set(err, -EINVAL, ERR_INVALID, "expected key = value, got %s",
			log_q(assignment));
	if (!k)
		return err_set(err, -EINVAL, ERR_INVALID, "%s: unknown key", log_q(name));
	value = str_trim(value);
	if (key_set(c, k, value) == 0)
		return 0;
	key_allowed(k, allowed, sizeof(allowed));
	return err_field(err, -EINVAL, ERR_INVALID, k->name, "%s: got %s, allowed is %s", k->name,
		value.n ? log_q(value) : "nothing", allowed);
}

/* A comment begins with # at the start of a line or after a blank. */
static struct str without_comment(struct str line)
{
	for (size_t i = 0; i < line.n; i++)
		if (line.p[i] == '#' && (i == 0 || line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
			return str_n(line.p, i);
	return line;
}

int config_read(struct config *c, const char *name, struct str text, struct buf *complaints)
{
	unsigned int number = 0;
	int r = 0;

	while (text.p) {
		struct str line = str_trim(without_comment(str_cut(&text, '\n')));
		struct err err;

		number++;
		if (line.n == 0 || config_set(c, line, &err) == 0)
			continue;
		r = -EINVAL;
		buf_fmt(complaints, "%s:%u: %s\n", name, number, err.text);
	}
	return r;
}

/* The proxy takes any name right below ingress.domain for a sandbox's. */
static int check_gateway(const struct config *c, struct buf *complaints)
{
	struct str rest = str_c(c->gateway_address), host = str_cut(&rest, ':'), domain = host, first;
	bool wildcard = str_eq_c(STR("wildcard"), c->gateway_mode);

	if (!c->gateway_address[0] || str_eq_c(STR("off"), c->gateway_mode))
		return 0;
	first = str_cut(&domain, '.');
	if (str_eq_c(first, "*") != wildcard || (wildcard && !str_eq_c(domain, c->ingress_domain)))
		buf_fmt(complaints, "gateway.address: with gateway.mode = %s expected %s%s\n", c->gateway_mode,
			wildcard ? "*." : "a host without *.", wildcard ? c->ingress_domain : "");
	else if (!wildcard && domain.p && str_eq_c(domain, c->ingress_domain))
		buf_fmt(complaints, "gateway.address: names right below ingress.domain %s are sandboxes'\n",
			c->ingress_domain);
	else
		return 0;
	return -EINVAL;
}

int config_finish(struct config *c, struct buf *complaints)
{
	int r = 0;

	if (!c->image_dir[0] && (size_t)snprintf(c->image_dir, sizeof(c->image_dir), "%s/images",
				     c->state_dir) >= sizeof(c->image_dir)) {
		r = -EINVAL;
		buf_fmt(complaints, "daemon.state_dir: too long for a default of daemon.image_dir\n");
	}
	if (!c->cgroup_root[0])
		snprintf(c->cgroup_root, sizeof(c->cgroup_root), "%s", c->daemon_name);
	if (prefix_covers(c->net_range4, c->net_overlay4) ||
		prefix_covers(c->net_overlay4, c->net_range4)) {
		r = -EINVAL;
		buf_fmt(complaints, "net.overlay4: %s overlaps net.range4 %s\n",
			prefix_text(c->net_overlay4).s, prefix_text(c->net_range4).s);
	}
	if (!c->ingress_cert[0] != !c->ingress_key[0]) {
		r = -EINVAL;
		buf_fmt(complaints, "ingress.cert: a certificate and its key come together\n");
	}
	return check_gateway(c, complaints) < 0 ? -EINVAL : r;
}

/* --- printing --- */

static void print_listens(const struct config_listens *ls, struct buf *out)
{
	for (unsigned int i = 0; i < ls->n; i++) {
		const struct config_listen *l = &ls->at[i];

		buf_fmt(out, l->ip.family == 6 ? "%s[%s]:%u" : "%s%s:%u", i ? ", " : "",
			ip_text(l->ip).s, l->port);
		if (!str_eq_c(STR("all"), l->dialect))
			buf_fmt(out, "/%s", l->dialect);
	}
}

static void print_value(const struct config *c, const struct key *k, struct buf *out)
{
	static const char *const levels[] = { "debug", "info", "warn", "error" };
	const void *at = (const char *)c + k->offset;

	switch (k->kind) {
	case TEXT:
		buf_add_c(out, at);
		break;
	case U32:
		buf_fmt(out, "%u", *(const uint32_t *)at);
		break;
	case U16:
		buf_fmt(out, "%u", *(const uint16_t *)at);
		break;
	case SWITCH:
		buf_add_c(out, k->words[*(const bool *)at]);
		break;
	case LEVEL:
		buf_add_c(out, levels[*(const int *)at]);
		break;
	case LISTENS:
		print_listens(at, out);
		break;
	case PORTS:
		if (((const struct config_ports *)at)->first)
			buf_fmt(out, "%u-%u", ((const struct config_ports *)at)->first,
				((const struct config_ports *)at)->last);
		break;
	case PREFIX:
		buf_add_c(out, prefix_text(*(const struct prefix *)at).s);
		break;
	case PREFIXES:
		for (unsigned int i = 0; i < ((const struct config_prefixes *)at)->n; i++)
			buf_fmt(out, "%s%s", i ? ", " : "",
				prefix_text(((const struct config_prefixes *)at)->p[i]).s);
		break;
	case IPS:
		for (unsigned int i = 0; i < ((const struct config_ips *)at)->n; i++)
			buf_fmt(out, "%s%s", i ? ", " : "",
				ip_text(((const struct config_ips *)at)->ip[i]).s);
		break;
	}
}

/* Help and limits as comment lines of at most 79 letters. */
static void print_comment(const char *text, struct buf *out)
{
	struct str rest = str_c(text);
	size_t column = 0;

	while (rest.p) {
		struct str word = str_cut(&rest, ' ');

		if (column && column + 1 + word.n > 79) {
			buf_add_c(out, "\n");
			column = 0;
		}
		buf_add_c(out, column ? " " : "# ");
		column += word.n + (column ? 1 : 2);
		buf_add_str(out, word);
	}
	buf_add_c(out, "\n");
}

int config_print(const struct config *c, bool with_help, struct buf *out)
{
	if (with_help)
		buf_add_c(out, "# The configuration of weird: every key with its default.\n"
			       "# Lists are separated by commas. `weird --check` reads this file "
			       "and prints\n# every complaint.\n");
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct key *k = &config_keys[i];

		if (with_help) {
			char allowed[200], line[256];

			buf_add_c(out, "\n");
			print_comment(k->help, out);
			key_allowed(k, allowed, sizeof(allowed));
			snprintf(line, sizeof(line), "Allowed: %s.", allowed);
			print_comment(line, out);
		}
		buf_fmt(out, "%s =", k->name);
		{
			size_t before = out->n;

			buf_add_c(out, " ");
			print_value(c, k, out);
			if (out->n == before + 1) /* no blank at the end of an empty value */
				out->n = before;
		}
		buf_add_c(out, "\n");
	}
	return buf_failed(out);
}
