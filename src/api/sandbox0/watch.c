/*
 * Watching files over a WebSocket: who subscribes to a path is told what happens to the names below
 * it, until the socket or the subscription ends. Paths are told in the form they were asked in.
 *
 *	{"action":"subscribe","path":…,"recursive":…}	-> {"type":"subscribed","watch_id":…,"path":…}
 *	{"action":"unsubscribe","watch_id":…}		-> {"type":"unsubscribed","watch_id":…}
 *	what does not read, or cannot be watched	-> {"type":"error","error":…}
 *	{"type":"event","watch_id":…,"event":…,"path":…}; what was asked for is gone: unsubscribed
 *
 * A slow client pauses the reading from the agent; what its kernel cannot keep meanwhile is told as one
 * `invalidate`.
 */
#include "api/notify.h"
#include "api/sandbox0/files.h"
#include "api/sandbox0/path.h"
#include "api/websocket.h"
#include "base/clock.h"

#define SUBSCRIPTIONS_MAX 16u /* of one socket: as many as an agent has */
#define EVENT_MAX	  (8u * FRAME_PATH_MAX) /* a name's bytes are up to six in JSON */

struct watching {
	struct use use;
	struct websocket *ws;
	struct api *api;
	LIST_HEAD(, subscription) subscriptions;
	unsigned int n;
};

struct subscription {
	LIST_ENTRY(subscription) next;
	struct watching *of;
	struct notify *notify;
	char id[6 + 8 + 1], path[FRAME_PATH_MAX + 1];
};

static void subscription_free(struct subscription *s)
{
	LIST_REMOVE(s, next);
	s->of->n--;
	notify_free(s->notify);
	free(s);
}

static void watching_free(struct watching *w)
{
	while (!LIST_EMPTY(&w->subscriptions))
		subscription_free(LIST_FIRST(&w->subscriptions));
	box_unuse(&w->use);
	free(w);
}

static void on_ws_gone(struct websocket *ws, void *arg)
{
	watching_free(arg);
}

static void bounce(struct use *u, const struct err *err)
{
	struct watching *w = container_of(u, struct watching, use);

	websocket_close(w->ws, 1000, err->text);
	watching_free(w);
}

/* --- to the client --- */

static void pause_all(struct watching *w, bool paused)
{
	struct subscription *s;

	LIST_FOREACH (s, &w->subscriptions, next)
		notify_pause(s->notify, paused);
}

static void on_ws_drain(struct websocket *ws, void *arg)
{
	pause_all(arg, false);
}

struct message {
	const char *type, *id, *event, *error;
	struct str path;
};

static void say(struct watching *w, const struct message *m)
{
	auto_buf struct buf text = BUF_MAX(EVENT_MAX);
	struct jw j = JW(&text);

	jw_obj(&j, NULL);
	jw_c(&j, "type", m->type);
	if (m->id)
		jw_c(&j, "watch_id", m->id);
	if (m->event)
		jw_c(&j, "event", m->event);
	if (m->path.p)
		jw_str(&j, "path", m->path);
	if (m->error)
		jw_c(&j, "error", m->error);
	jw_end(&j);
	if (!buf_failed(&text) && websocket_send(w->ws, buf_str(&text)) == 0)
		pause_all(w, true);
}

static void say_error(struct watching *w, const char *id, const char *text)
{
	say(w, &(struct message){ .type = "error", .id = id, .error = text });
}

/* --- from the agent --- */

static void on_open(struct notify *x, void *arg)
{
	struct subscription *s = arg;

	say(s->of, &(struct message){ "subscribed", .id = s->id, .path = str_c(s->path) });
}

static void on_change(struct notify *x, enum frame_change what, struct str path, void *arg)
{
	static const char *const events[] = { [FRAME_CREATED] = "create", [FRAME_WRITTEN] = "write",
		[FRAME_REMOVED] = "remove", [FRAME_RENAMED] = "rename",
		[FRAME_ATTRIBUTES] = "chmod", [FRAME_INVALIDATED] = "invalidate" };
	struct subscription *s = arg;

	say(s->of, &(struct message){ "event", .id = s->id, .event = events[what], .path = path });
}

static void on_end(struct notify *x, const struct err *err, void *arg)
{
	struct subscription *s = arg;
	struct watching *w = s->of;

	if (err)
		say_error(w, s->id, err->text);
	else
		say(w, &(struct message){ "unsubscribed", .id = s->id });
	subscription_free(s);
}

/* --- from the client --- */

struct ask {
	struct str action, path, id;
	bool recursive;
};
#define F(n, k, f) { .name = n, .kind = k, .offset = offsetof(struct ask, f), .seen_offset = -1 }
static const struct json_field fields[] = {
	F("action", JK_STR, action),
	F("path", JK_STR, path),
	F("recursive", JK_BOOL, recursive),
	F("watch_id", JK_STR, id),
};

static int subscribe(struct watching *w, const struct ask *a, struct err *err)
{
	static const struct notify_ops ops = { on_open, on_change, on_end };
	struct subscription *s;
	uint32_t number;
	int r;

	if (w->n == SUBSCRIPTIONS_MAX)
		return err_set(err, -EDQUOT, ERR_INVALID, "more than %u watches of one connection",
			SUBSCRIPTIONS_MAX);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	random_bytes(&number, sizeof(number));
	snprintf(s->id, sizeof(s->id), "watch-%08x", number);
	r = path_from(a->path.p ? a->path : STR(""), s->path, sizeof(s->path), "path", err);
	if (r == 0) {
		path_clean(s->path);
		r = notify_start(w->api->loop, &w->use.box->link, str_c(s->path), a->recursive, &ops, s,
			&s->notify, err);
	}
	if (r < 0) {
		free(s);
		return r;
	}
	s->of = w;
	LIST_INSERT_HEAD(&w->subscriptions, s, next);
	w->n++;
	return 0;
}

static int unsubscribe(struct watching *w, struct str id, struct err *err)
{
	struct subscription *s;
	char gone[sizeof(s->id)];

	LIST_FOREACH (s, &w->subscriptions, next)
		if (str_eq_c(id, s->id))
			break;
	if (!s)
		return err_field(err, -ENOENT, ERR_INVALID, "watch_id", "no such watch");
	memcpy(gone, s->id, sizeof(gone));
	subscription_free(s);
	say(w, &(struct message){ "unsubscribed", .id = gone });
	return 0;
}

static int act(struct watching *w, struct str data, struct err *err)
{
	auto_json json_t *json = NULL;
	struct ask a = { 0 };
	int r = json_parse(data, &json, err);

	if (r == 0)
		r = json_decode(json, fields, ARRAY_SIZE(fields), &a, err);
	if (r < 0)
		return r;
	if (str_eq_c(a.action, "subscribe"))
		return subscribe(w, &a, err);
	if (str_eq_c(a.action, "unsubscribe"))
		return unsubscribe(w, a.id, err);
	return err_field(err, -EINVAL, ERR_INVALID, "action", "expected subscribe or unsubscribe");
}

static void on_message(struct websocket *ws, struct str data, void *arg)
{
	char text[sizeof(((struct err *)0)->field) + sizeof(((struct err *)0)->text) + 2];
	struct watching *w = arg;
	struct err err;

	if (act(w, data, &err) == 0)
		return;
	snprintf(text, sizeof(text), "%s%s%s", err.field, err.field[0] ? ": " : "", err.text);
	say_error(w, NULL, text);
}

void sandbox0_file_watch(struct req *q)
{
	static const struct websocket_ops ops = { .on_message = on_message, .on_drain = on_ws_drain,
		.on_gone = on_ws_gone };
	struct watching *w = calloc(1, sizeof(*w));
	struct err err;
	int r = w ? websocket_asked(q, &err) : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r < 0) {
		free(w);
		q->code = r == -ENOMEM ? NULL : "invalid_request";
		reply_err(q, &err);
		return;
	}
	w->api = q->api;
	LIST_INIT(&w->subscriptions);
	box_use(q->box, &w->use, bounce);
	if (websocket_accept(q, &ops, w, &w->ws) < 0)
		watching_free(w);
}
