/*
 * Services and exposed ports: see the header. A change is answered when host and edges know it: from
 * then on a service is reached at its URL, or is not any more.
 */
#include "api/sandbox0/services.h"
#include "api/services.h"

#define ANSWER_MAX (1u << 20)

/* --- views --- */

static void put_url(struct jw *w, const struct req *q, uint16_t port)
{
	auto_buf struct buf form = BUF_MAX(1024), url = BUF_MAX(1024);
	struct str rest;
	ssize_t at;

	ingress_template(q->api, q->row->id, &form);
	rest = buf_str(&form);
	at = str_find(rest, '<');
	if (at < 0)
		return;
	buf_fmt(&url, STR_FMT "%u" STR_FMT "/", (int)at, rest.p, port,
		STR_ARG(str_skip(rest, (size_t)at + strlen("<port>"))));
	jw_str(w, "public_url", buf_str(&url));
}

static void put_service(struct jw *w, const struct req *q, const json_t *s)
{
	const char *key;
	json_t *value;

	jw_obj(w, NULL);
	json_object_foreach ((json_t *)s, key, value) {
		auto_free char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		if (text)
			jw_raw(w, key, str_c(text));
	}
	jw_bool(w, "publishable", true);
	jw_arr(w, "publish_blockers");
	jw_arr_end(w);
	if (service_public(s))
		put_url(w, q, service_port(s));
	jw_end(w);
}

static void put_port(struct jw *w, const struct req *q, const json_t *s)
{
	if (!service_public(s))
		return;
	jw_obj(w, NULL);
	jw_u64(w, "port", service_port(s));
	jw_bool(w, "resume", service_resumes(s));
	put_url(w, q, service_port(s));
	jw_end(w);
}

static void reply_list(struct req *q, const char *name,
	void (*put)(struct jw *w, const struct req *q, const json_t *s))
{
	auto_json json_t *list = services_of(q->row);
	struct answer a;

	sandbox0_begin(&a, ANSWER_MAX);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "sandbox_id", q->row->id);
	jw_arr(&a.w, name);
	for (size_t i = 0; i < json_array_size(list); i++)
		put(&a.w, q, json_array_get(list, i));
	jw_arr_end(&a.w);
	jw_c(&a.w, "exposure_domain", q->api->config.ingress_domain);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void sandbox0_services_get(struct req *q)
{
	reply_list(q, "services", put_service);
}

void sandbox0_ports_get(struct req *q)
{
	reply_list(q, "exposed_ports", put_port);
}

/* --- changes --- */

struct change {
	struct op *op;
	void (*reply)(struct req *q);
};

static void change_gone(struct req *q)
{
	op_forget(((struct change *)q->state)->op);
}

static void changed(struct op *op, const struct err *err, void *arg)
{
	struct req *q = arg;
	struct change *c = q->state;

	q->on_gone = NULL;
	if (err)
		reply_err(q, err);
	else
		c->reply(q);
}

static void change(struct req *q, const char *services, void (*reply)(struct req *q))
{
	struct ingress_want want = INGRESS_AS_IT_WAS;
	struct change *c = http_alloc(q->h, sizeof(*c));
	struct err err;

	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	*c = (struct change){ .reply = reply };
	want.services = str_c(services);
	q->state = c;
	q->on_gone = change_gone;
	flow_ingress(q->box, &want, changed, q, &c->op);
}

static void put(struct req *q, const json_t *list, const char *name,
	int (*read)(const json_t *list, char **ret, struct err *err), void (*reply)(struct req *q))
{
	auto_free char *text = NULL;
	struct err err;
	int r = list ? read(list, &text, &err) :
		       err_field(&err, -EINVAL, ERR_INVALID, name, "required");

	if (r < 0)
		reply_err(q, &err);
	else
		change(q, text, reply);
}

void sandbox0_services_put(struct req *q)
{
	put(q, json_object_get(q->json, "services"), "services", services_text,
		sandbox0_services_get);
}

void sandbox0_ports_put(struct req *q)
{
	const json_t *list = json_object_get(q->json, "exposed_ports");

	put(q, list ? list : json_object_get(q->json, "ports"), "exposed_ports", services_from_ports,
		sandbox0_ports_get);
}

void sandbox0_ports_delete(struct req *q)
{
	change(q, SERVICES_NONE, sandbox0_ports_get);
}

void sandbox0_port_delete(struct req *q)
{
	auto_json json_t *list = services_of(q->row);
	auto_free char *text = NULL;
	size_t n = json_array_size(list);
	uint64_t port;
	struct err err;

	if (str_u64(req_param(q, "port"), UINT16_MAX, &port) < 0)
		port = 0;
	for (size_t i = n; i-- > 0;)
		if (service_port(json_array_get(list, i)) == port)
			json_array_remove(list, i);
	text = json_dumps(list, JSON_COMPACT);
	if (!text)
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	else if (json_array_size(list) == n)
		err_field(&err, -ENOENT, ERR_NOT_FOUND, "port", "this port is not exposed");
	else
		return change(q, text, sandbox0_ports_get);
	reply_err(q, &err);
}
