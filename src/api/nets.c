/* Private networks in memory: see the header. */
#include "api/calls.h"
#include "api/peers.h"
#include "base/clock.h"
#include "base/log.h"

_Static_assert(IPC_NETS_MAX == WEIR_NETS_MAX, "messages hold what the kernel's map holds");

#define NAME_MAX_BYTES 63u /* a DNS label */

/* --- the table --- */

static struct network *by_id(struct api *a, const char *id)
{
	struct network *n;

	HASH_FIND_STR(a->nets, id, n);
	return n;
}

static struct network *keep(struct api *a, const struct network_row *row)
{
	struct network *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->row = *row;
	n->row.policy = NULL;
	HASH_ADD_STR(a->nets, row.id, n);
	if (!table_has(n)) {
		free(n);
		return NULL;
	}
	return n;
}

static void forget(struct api *a, struct network *n)
{
	HASH_DEL(a->nets, n);
	free(n->rules);
	free(n);
}

/* Rules that were accepted once and no longer read must not open the network. */
static int load_rules(struct network *n, const char *text)
{
	auto_json json_t *body = NULL;
	struct err err;

	if (!*text || (json_parse(str_c(text), &body, &err) == 0 &&
			      net_rules_from(body, &n->rules, &err) == 0))
		return 0;
	log_event(LOG_ERROR, "network.policy_unreadable", "network=%s text=%s", n->row.id,
		log_q(str_c(err.text)));
	n->rules = calloc(1, sizeof(*n->rules));
	return n->rules ? 0 : -ENOMEM;
}

static int load_net(const struct network_row *row, void *arg)
{
	struct network *n = keep(arg, row);

	return n ? load_rules(n, row->policy) : -ENOMEM;
}

static int load_member(const char *network, const char *sandbox, void *arg)
{
	struct api *a = arg;
	struct network *n = by_id(a, network);
	struct box *b = box_find(a, sandbox);

	return n && b ? box_join(b, n, NULL) : 0;
}

int nets_load(struct api *a, struct err *err)
{
	int r;

	err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = store_networks(a->store, NULL, 0, 0, load_net, a, NULL, err);
	return r < 0 ? r : store_members(a->store, load_member, a, err);
}

struct network *nets_by_number(struct api *a, uint32_t number)
{
	struct network *n, *tmp;

	HASH_ITER (hh, a->nets, n, tmp)
		if (n->row.number == number)
			return n;
	return NULL;
}

/* "net-01…" or "NET_01…" -> "net-01…". */
static int id_from(struct str text, char ret[static IPC_ID_LEN])
{
	struct ulid u;

	if (text.n != 4 + ULID_LEN || !str_caseeq(str_n(text.p, 3), STR("net")) ||
		(text.p[3] != '-' && text.p[3] != '_') || ulid_from(str_skip(text, 4), &u) < 0)
		return -EINVAL;
	snprintf(ret, IPC_ID_LEN, "net-%s", u.s);
	return 0;
}

struct network *nets_find(struct api *a, const char *user, struct str word)
{
	struct network *n, *tmp;
	char id[IPC_ID_LEN];

	if (id_from(word, id) == 0) {
		n = by_id(a, id);
		return n && strcmp(n->row.user, user) == 0 ? n : NULL;
	}
	HASH_ITER (hh, a->nets, n, tmp)
		if (strcmp(n->row.user, user) == 0 && str_eq_c(word, n->row.name))
			return n;
	return NULL;
}

static int name_check(struct str name, struct err *err)
{
	bool ok = name.n >= 1 && name.n <= NAME_MAX_BYTES && name.p[0] != '-';
	char id[IPC_ID_LEN];

	for (size_t i = 0; i < name.n; i++)
		ok = ok && ((name.p[i] >= 'a' && name.p[i] <= 'z') ||
				   (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-');
	if (!ok)
		return err_field(err, -EINVAL, ERR_INVALID, "name",
			"must match ^[a-z0-9][a-z0-9-]{0,62}$");
	if (id_from(name, id) == 0)
		return err_field(err, -EINVAL, ERR_INVALID, "name", "must not read as an id");
	return 0;
}

static int insert(struct api *a, struct network_row *row, struct err *err)
{
	int r = store_begin(a->store, err);

	if (r == 0)
		r = store_network_number(a->store, &row->number, err);
	if (r == 0)
		r = store_network_add(a->store, row, err);
	if (r == 0)
		r = store_commit(a->store, err);
	store_rollback(a->store);
	return r;
}

static unsigned int count_of(struct api *a, const char *user)
{
	struct network *n, *tmp;
	unsigned int count = 0;

	HASH_ITER (hh, a->nets, n, tmp)
		count += strcmp(n->row.user, user) == 0;
	return count;
}

int nets_add(struct api *a, const char *user, struct str name, struct network **ret,
	struct err *err)
{
	struct network_row row = { .created_ms = api_now_ms() };
	int r = name_check(name, err);

	if (r < 0)
		return r;
	if (nets_find(a, user, name))
		return err_field(err, -EEXIST, ERR_INVALID, "name",
			"a network named " STR_FMT " exists", STR_ARG(name));
	if (count_of(a, user) >= NETS_PER_USER)
		return err_field(err, -EDQUOT, ERR_FORBIDDEN, "quota",
			"network limit reached: %u per user", NETS_PER_USER);
	snprintf(row.id, sizeof(row.id), "net-%s", ulid_new(clock_wall_ns()).s);
	snprintf(row.user, sizeof(row.user), "%s", user);
	str_copy(row.name, sizeof(row.name), name);
	*ret = keep(a, &row);
	if (!*ret)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = insert(a, &(*ret)->row, err);
	if (r < 0)
		forget(a, take_ptr(*ret));
	else
		log_event(LOG_INFO, "network.new", "network=%s number=%u user=%s", (*ret)->row.id,
			(*ret)->row.number, user);
	return r;
}

int nets_rule(struct api *a, struct network *n, struct net_rules *rules,
	struct net_rules **ret_before, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(1u << 20);
	struct jw w = JW(&text);
	int r;

	if (rules) {
		jw_obj(&w, NULL);
		net_rules_write(rules, &w);
		jw_end(&w);
	}
	buf_add(&text, "", 1);
	r = buf_failed(&text) ? err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory") :
				store_network_policy(a->store, n->row.id, text.p, err);
	if (r < 0) {
		free(rules);
		return r;
	}
	*ret_before = n->rules;
	n->rules = rules;
	return 0;
}

int nets_drop(struct api *a, struct network *n, struct err *err)
{
	int r;

	if (n->members)
		return err_field(err, -EBUSY, ERR_CONFLICT, "id",
			"network %s still has active members", n->row.name);
	r = store_network_drop(a->store, n->row.id, err);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "network.gone", "network=%s number=%u", n->row.id, n->row.number);
	net_gone_send(a, n);
	forget(a, n);
	return 0;
}

/* --- one box --- */

bool box_in(const struct box *b, const struct network *n)
{
	for (uint32_t i = 0; i < b->n_nets; i++)
		if (b->nets[i] == n)
			return true;
	return false;
}

int box_join(struct box *b, struct network *n, struct err *err)
{
	uint32_t at = b->n_nets;

	if (box_in(b, n))
		return 0;
	if (b->n_nets == WEIR_NETS_MAX)
		return err_field(err, -E2BIG, ERR_INVALID, "id",
			"a sandbox can be in %u networks at most", WEIR_NETS_MAX);
	for (; at && b->nets[at - 1]->row.number > n->row.number; at--)
		b->nets[at] = b->nets[at - 1];
	b->nets[at] = n;
	b->n_nets++;
	n->members++;
	return 0;
}

void box_leave(struct box *b, struct network *n)
{
	uint32_t kept = 0;

	if (!box_in(b, n))
		return;
	for (uint32_t i = 0; i < b->n_nets; i++)
		if (b->nets[i] != n)
			b->nets[kept++] = b->nets[i];
	b->n_nets = kept;
	n->members--;
}

void box_leave_all(struct box *b)
{
	while (b->n_nets)
		box_leave(b, b->nets[0]);
}

int box_save_nets(struct box *b, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; i < b->n_nets && r == 0; i++)
		r = store_member_add(b->api->store, b->nets[i]->row.id, b->row.id, err);
	return r;
}

bool box_nets_are(const struct box *b, const uint32_t *nets, uint32_t n)
{
	if (n != b->n_nets)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (nets[i] != b->nets[i]->row.number)
			return false;
	return true;
}

struct ip box_overlay(const struct box *b)
{
	if (!b->row.slot)
		return (struct ip){ .family = 0 };
	return ip_plus(b->api->config.net_overlay4.ip, b->row.slot);
}
