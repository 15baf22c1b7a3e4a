/* The sandbox view: see the header. Optional members are left out, never null. */
#include "api/createos/egress.h"
#include "api/createos/view.h"
#include "api/ingress.h"
#include "api/shape.h"
#include "base/clock.h"

static void put_time(struct jw *w, const char *name, uint64_t ms)
{
	if (ms)
		jw_c(w, name, rfc3339_from(ms * NS_PER_MS).s);
}

static void put_text(struct jw *w, const char *name, const char *text)
{
	if (text && *text)
		jw_c(w, name, text);
}

/* Values of variables never leave: only their names do. */
static void put_env_names(struct jw *w, const char *envs)
{
	auto_json json_t *all = json_loads(envs ? envs : "{}", 0, NULL);
	const char *key;
	json_t *v;

	if (!json_object_size(all))
		return;
	jw_arr(w, "envs");
	json_object_foreach (all, key, v)
		jw_c(w, NULL, key);
	jw_arr_end(w);
}

static void put_size(struct jw *w, const struct sandbox_row *row)
{
	jw_u64(w, "vcpu", row->vcpu);
	if (row->quota_pct)
		jw_u64(w, "cpu_quota_pct", row->quota_pct);
	jw_u64(w, "mem_mib", row->mem_mib);
	jw_u64(w, "disk_mib", row->disk_mib);
}

static void put_port(struct jw *w, const char *name, const struct api *a, uint32_t port)
{
	auto_buf struct buf text = BUF_MAX(512);

	ingress_address(a, port, &text);
	jw_str(w, name, buf_str(&text));
}

static void put_ingress(struct jw *w, const struct api *a, const struct sandbox_row *row)
{
	auto_buf struct buf text = BUF_MAX(512);
	uint32_t open = ingress_ports_open(a, row);

	jw_bool(w, "ingress_enabled", row->ingress);
	if (row->ingress) {
		ingress_template(a, row->id, &text);
		jw_str(w, "ingress_url_template", buf_str(&text));
		jw_c(w, "ingress_access", row->ingress_access == IPC_INGRESS_TOKEN ? "token" : "open");
		jw_bool(w, "ingress_hold", row->ingress_hold);
	}
	if (row->secured)
		jw_bool(w, "ingress_secured", true);
	if (!open)
		return;
	jw_obj(w, "host_ports");
	if (open & INGRESS_PORTS_PROXY)
		put_port(w, "proxy", a, row->port_proxy);
	if (open & INGRESS_PORTS_DIRECT)
		put_port(w, "direct", a, row->port_direct);
	jw_end(w);
}

void view_write(struct jw *w, const char *name, struct api *a, const struct sandbox_row *row)
{
	jw_obj(w, name);
	jw_c(w, "id", row->id);
	jw_c(w, "name", row->name);
	jw_c(w, "status", life_state_name(row->state));
	if (row->state != LIFE_CREATING && row->state != LIFE_FORKING)
		put_text(w, "ip", row->ip4);
	jw_c(w, "shape", row->shape);
	jw_c(w, "rootfs", row->image && *row->image ? row->image : row->rootfs);
	jw_c(w, "runtime", row->runtime);
	put_size(w, row);
	put_time(w, "created_at", row->created_ms);
	put_time(w, "running_at", row->running_ms);
	put_time(w, "paused_at", row->paused_ms);
	put_time(w, "last_resumed_at", row->resumed_ms);
	put_time(w, "destroyed_at", row->destroyed_ms);
	if (row->spawn_us)
		jw_ms(w, "spawn_ms", row->spawn_us * 1000);
	egress_put(w, a, row);
	put_env_names(w, row->envs);
	if (row->ssh_keys && *row->ssh_keys && !str_eq_c(str_c(row->ssh_keys), "[]"))
		jw_raw(w, "ssh_pubkeys", str_c(row->ssh_keys));
	put_text(w, "created_by", row->created_by);
	put_text(w, "forked_from", row->forked_from);
	put_ingress(w, a, row);
	jw_i64(w, "bandwidth_quota_bytes", -1);
	jw_u64(w, "bandwidth_ingress_bytes", row->in_used);
	if (row->auto_pause_s)
		jw_u64(w, "auto_pause_after_seconds", row->auto_pause_s);
	put_text(w, "reason", row->reason);
	jw_end(w);
}

void reply_view(struct req *q, int status, const struct sandbox_row *row)
{
	struct answer a;

	answer_begin(&a, VIEW_MAX);
	view_write(&a.w, "data", q->api, row);
	reply_send(q, status, &a);
}
