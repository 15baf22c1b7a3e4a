/* Access: see the header. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "edge/ingress/access.h"
#include "edge/ingress/ingress.h"
#include "wire/signed.h"

static int refuse(struct err *err, int status, const char *text)
{
	err_set(err, -EACCES, status == 401 ? ERR_UNAUTHORIZED : ERR_CAPACITY, "%s", text);
	return status;
}

/* --- what is shown --- */

/* The value of name=… in a list with this separator; STR_NONE if it is not there. */
static struct str pick(struct str list, char separator, struct str name)
{
	while (list.p) {
		struct str value = str_trim(str_cut(&list, separator)), key = str_cut(&value, '=');

		if (str_eq(str_trim(key), name) && value.p)
			return str_trim(value);
	}
	return STR_NONE;
}

void access_read(const struct http_head *h, struct str path, struct access_shown *ret)
{
	*ret = (struct access_shown){ 0 };
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;

		if (!ret->secure.p && str_caseeq(name, STR(INGRESS_SECURE_HEADER)))
			ret->secure = value.p ? value : STR("");
		else if (!ret->header.p && str_caseeq(name, STR(INGRESS_TOKEN_HEADER)))
			ret->header = value;
		else if (!ret->cookie.p && str_caseeq(name, STR("cookie")))
			ret->cookie = pick(value, ';', STR(INGRESS_TOKEN_COOKIE));
	}
	str_cut(&path, '?');
	ret->query = pick(path, '&', STR(INGRESS_TOKEN_QUERY));
}

/* --- tokens --- */

static bool token_opens(const struct access_rule *rule, struct str text, uint16_t port, uint64_t now)
{
	unsigned int n = 0, found = 0;
	uint8_t digest[32];

	if (!text.n || text.n > ACCESS_TOKEN_TEXT_MAX ||
		EVP_Digest(text.p, text.n, digest, &n, EVP_sha256(), NULL) != 1)
		return false;
	for (size_t i = 0; i < rule->n_tokens; i++) {
		const struct ipc_ingress_token *t = &rule->tokens[i];
		unsigned int fits = CRYPTO_memcmp(t->digest, digest, sizeof(digest)) == 0;

		found |= fits & (t->port == port) & (!t->expires || now <= t->expires);
	}
	return found;
}

/* --- signed routes --- */

static int check_signed(const struct access_rule *rule, const struct target *t, uint64_t now,
	struct err *err)
{
	const struct ipc_ingress_key *key = NULL;
	uint64_t expires;
	char sig[SIGNED_LEN + 1];

	if (!rule->keys->n)
		return refuse(err, 503, "no key to verify signed routes with is configured");
	for (size_t i = 0; i < rule->keys->n && i < IPC_INGRESS_KEYS_MAX; i++)
		if (rule->keys->key[i].id == t->sig.p[t->sig.n - 1])
			key = &rule->keys->key[i];
	if (!key || !signed_time_from(t->expires, &expires) ||
		signed_make(key, str_c(rule->id), t->port, t->expires, sig) < 0 ||
		!str_eq_const_time(str_n(sig, SIGNED_LEN), t->sig))
		return refuse(err, 401, "the route's signature is not valid");
	if (now > expires)
		return refuse(err, 401, "the signed route has expired");
	return 0;
}

/* --- all together --- */

static int check_token(const struct access_rule *rule, const struct access_shown *shown,
	const struct target *t, uint64_t now, bool *ret_by_query, struct err *err)
{
	/* The first way that is there counts, so that a stale cookie cannot hide behind a query. */
	struct str text = shown->header.p ? shown->header :
		shown->query.p		 ? shown->query :
					   shown->cookie;

	if (!text.p)
		return refuse(err, 401, "a token for this port is needed: header "
			INGRESS_TOKEN_HEADER ", cookie " INGRESS_TOKEN_COOKIE " or query "
			INGRESS_TOKEN_QUERY);
	if (!token_opens(rule, text, t->port, now))
		return refuse(err, 401, "the token is not valid for this port, or has expired");
	*ret_by_query = !shown->header.p && shown->query.p;
	return 0;
}

int access_check(const struct access_rule *rule, const struct access_shown *shown,
	const struct target *t, uint64_t now, bool *ret_by_query, struct err *err)
{
	*ret_by_query = false;
	if (rule->secret.n) {
		if (shown->secure.p)
			return str_eq_const_time(shown->secure, rule->secret) ? 0 :
				refuse(err, 401, INGRESS_SECURE_HEADER " is not valid");
		if (t->sig.p)
			return check_signed(rule, t, now, err);
		if (rule->access != IPC_INGRESS_TOKEN)
			return refuse(err, 401, INGRESS_SECURE_HEADER " or a signed route is needed");
	}
	if (rule->access != IPC_INGRESS_TOKEN)
		return 0;
	return check_token(rule, shown, t, now, ret_by_query, err);
}

/* --- a port that is published by itself --- */

struct str access_route_header(const struct ipc_ingress_route *route)
{
	if (route->auth == IPC_INGRESS_ANYBODY)
		return STR_NONE;
	return route->auth == IPC_INGRESS_BEARER ? STR("authorization") : str_c(route->header);
}

/* The first header of that name counts. */
static struct str route_text(const struct ipc_ingress_route *route, const struct http_head *h)
{
	struct str name = access_route_header(route), text = STR_NONE;

	for (size_t i = 0; i < h->n_fields && !text.p; i++)
		if (str_caseeq(h->fields[i].name, name))
			text = h->fields[i].value;
	if (route->auth == IPC_INGRESS_BEARER && !str_caseeq(str_cut(&text, ' '), STR("bearer")))
		return STR_NONE;
	return str_trim(text);
}

int access_route(const struct ipc_ingress_route *route, const struct http_head *h, struct err *err)
{
	struct str text = STR_NONE;
	unsigned int n = 0;
	uint8_t digest[32];

	if (route->auth == IPC_INGRESS_ANYBODY)
		return 0;
	text = route_text(route, h);
	if (!text.n || text.n > ACCESS_TOKEN_TEXT_MAX ||
		EVP_Digest(text.p, text.n, digest, &n, EVP_sha256(), NULL) != 1 ||
		CRYPTO_memcmp(route->digest, digest, sizeof(digest)))
		return refuse(err, 401, route->auth == IPC_INGRESS_BEARER ?
			"this service needs its bearer token" : "this service needs its header");
	return 0;
}
