/* Who may reach a port of a sandbox through this role: see the header. */
#include "api/ingress.h"
#include "api/opensandbox/gateway.h"
#include "api/opensandbox/guard.h"
#include "api/opensandbox/opensandbox.h"

#define EXECD_PURPOSE "execd"
#define EXECD_HEADER  "X-EXECD-ACCESS-TOKEN"

static void purpose_of(uint32_t port, char ret[static 24])
{
	snprintf(ret, 24, "proxy/%u", port);
}

int guard_token(const struct req *q, uint32_t port, struct secret *ret)
{
	char purpose[24];

	if (q->row->secured)
		return gateway_token(q->api, q->row->id, ret);
	purpose_of(port, purpose);
	return mint_token(q->api->mint, purpose, str_c(q->row->id), ret);
}

/* As a header brings it: no blank around it, nothing that a line cannot hold. */
int guard_execd_check(struct str token, struct err *err)
{
	bool fine = token.n && token.n <= MINT_ID_MAX;

	for (size_t i = 0; i < token.n; i++)
		fine = fine && token.p[i] > ' ' && token.p[i] <= '~';
	return fine ? 0 : err_field(err, -EINVAL, ERR_INVALID, "env",
		"env \"" GUARD_EXECD_ENV "\": expected 1 to %u visible ASCII characters", MINT_ID_MAX);
}

int guard_execd_token(const struct api *a, struct str token, struct secret *ret)
{
	int r = guard_execd_check(token, NULL);

	return r < 0 ? r : mint_token(a->mint, EXECD_PURPOSE, token, ret);
}

/* Stored is what guard_execd_token() made of the token. */
static bool execd_fits(const struct req *q)
{
	auto_secret struct secret made = SECRET_NONE;

	return guard_execd_token(q->api, http_header(q->h, EXECD_HEADER), &made) == 0 &&
		secret_is(&made, str_c(q->row->execd_token));
}

static bool token_fits(const struct req *q, uint32_t port)
{
	auto_secret struct secret want = SECRET_NONE;

	return port && guard_token(q, port, &want) == 0 &&
		secret_is(&want, http_header(q->h, GUARD_HEADER));
}

/* The port behind /sandboxes/{id}/proxy/; 0: none, and no token fits. */
static uint32_t port_of(const struct req *q)
{
	unsigned int at = str_eq_c(q->segs.seg[0], "v1") ? 4 : 3;
	uint64_t port = 0;

	if (at >= q->segs.n || str_u64(q->segs.seg[at], UINT16_MAX, &port) < 0)
		return 0;
	return (uint32_t)port;
}

/* Whose key the request brings. */
enum asker { ASKER_NONE, ASKER_OWNER, ASKER_OTHER };
static enum asker asker_of(const struct req *q)
{
	static const char *const headers[] = { "open-sandbox-api-key", "x-api-key" };
	enum asker asker = ASKER_NONE;

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		struct principal who;

		if (keyring_check(q->api->keys, http_header(q->h, headers[i]), &who) < 0)
			continue;
		if (str_eq_c(str_c(who.user), q->row->user))
			return ASKER_OWNER;
		asker = ASKER_OTHER;
	}
	return asker;
}

bool guard_other(const struct req *q)
{
	return asker_of(q) == ASKER_OTHER;
}

static int check_credential(struct req *q, uint32_t port, struct err *err)
{
	enum asker asker;

	if (token_fits(q, port))
		return 0;
	asker = asker_of(q);
	if (asker == ASKER_OTHER)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	if (asker == ASKER_OWNER || (!q->row->secured && ingress_id_is_secret(q->row)))
		return 0;
	q->code = "MISSING_OR_INVALID_SECURE_ACCESS";
	return err_field(err, -EACCES, ERR_UNAUTHORIZED, "auth",
		"the id of this sandbox is not enough: send " GUARD_HEADER
		" as the endpoint answer has it, or the owner's API key");
}

int guard_admits(struct req *q, struct err *err)
{
	uint32_t port = port_of(q);
	/* The egress API asks for a token of its own in any case. */
	bool open = port == EGRESS_PORT && !q->row->secured;
	int r = open ? 0 : check_credential(q, port, err);

	if (r < 0 || port != EXECD_PORT || !q->row->execd_token[0] || execd_fits(q))
		return r;
	q->code = "UNAUTHORIZED";
	return err_field(err, -EACCES, ERR_UNAUTHORIZED, "auth",
		EXECD_HEADER ": missing, or not the token of this sandbox");
}
