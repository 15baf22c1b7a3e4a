/* Identifiers and names: see the header. */
#include "api/ident.h"
#include "base/base64.h"
#include "base/clock.h"

int sandbox_id_from(struct str text, char ret[static IPC_ID_LEN])
{
	struct ulid u;

	if (text.n != 3 + ULID_LEN || !str_caseeq(str_n(text.p, 2), STR("sb")) ||
		(text.p[2] != '-' && text.p[2] != '_'))
		return -EINVAL;
	if (ulid_from(str_skip(text, 3), &u) < 0)
		return -EINVAL;
	snprintf(ret, IPC_ID_LEN, "sb-%s", u.s);
	return 0;
}

void sandbox_id_new(char ret[static IPC_ID_LEN])
{
	snprintf(ret, IPC_ID_LEN, "sb-%s", ulid_new(clock_wall_ns()).s);
}

static bool alnum_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int sandbox_name_check(struct str name, struct err *err)
{
	bool ok = name.n >= 1 && alnum_lower(name.p[0]) && alnum_lower(name.p[name.n - 1]);

	if (name.n > SANDBOX_NAME_MAX)
		return err_field(err, -EINVAL, ERR_INVALID, "name", "at most %u characters",
			SANDBOX_NAME_MAX);
	for (size_t i = 0; i < name.n; i++)
		ok = ok && (alnum_lower(name.p[i]) || name.p[i] == '-');
	if (!ok)
		return err_field(err, -EINVAL, ERR_INVALID, "name",
			"must consist of a-z, 0-9 and inner hyphens");
	/* Names and ids share places in paths and networks: a name must not read as an id. */
	if (str_starts(name, STR("sb-")) || str_starts(name, STR("net-")) ||
		str_starts(name, STR("disk-")) || str_starts(name, STR("tpl-")))
		return err_field(err, -EINVAL, ERR_INVALID, "name", "must not begin like an id");
	return 0;
}

static const char *const adjectives[] = { "amber", "bold", "brave", "bright", "brisk", "calm",
	"clever", "cosy", "crisp", "deft", "eager", "early", "fair", "fleet", "fond", "fresh",
	"gentle", "glad", "golden", "grand", "happy", "hardy", "humble", "jolly", "keen", "kind",
	"light", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
	"patient", "plucky", "proud", "quick", "quiet", "rapid", "ready", "royal", "sharp", "shy",
	"silent", "silver", "smart", "snug", "solid", "spry", "steady", "still", "sunny", "swift",
	"tidy", "tranquil", "true", "vivid", "warm", "wise", "witty", "zesty" };
static const char *const animals[] = { "badger", "beaver", "bison", "bittern", "bobcat", "carp",
	"condor", "crane", "curlew", "dipper", "dolphin", "dove", "duck", "eagle", "eel", "egret",
	"falcon", "ferret", "finch", "fox", "frog", "gecko", "goose", "grebe", "gull", "hare",
	"hawk", "heron", "ibis", "jackdaw", "kestrel", "kite", "lark", "lemur", "lynx", "marten",
	"mink", "mole", "moose", "newt", "ocelot", "osprey", "otter", "owl", "panda", "perch",
	"pike", "plover", "puffin", "quail", "rail", "raven", "robin", "salmon", "seal", "shrew",
	"stork", "swan", "teal", "tern", "trout", "vole", "wren", "zander" };

void sandbox_name_new(unsigned int attempt, char ret[static SANDBOX_NAME_MAX + 1])
{
	uint32_t r[3];

	random_bytes(r, sizeof(r));
	const char *a = adjectives[r[0] % ARRAY_SIZE(adjectives)];
	const char *b = animals[r[1] % ARRAY_SIZE(animals)];

	if (attempt > 8)
		snprintf(ret, SANDBOX_NAME_MAX + 1, "%s-%s-%u", a, b, r[2] % 10000u);
	else
		snprintf(ret, SANDBOX_NAME_MAX + 1, "%s-%s", a, b);
}

bool env_key_ok(struct str key)
{
	if (key.n == 0 || key.n > 256)
		return false;
	for (size_t i = 0; i < key.n; i++) {
		char c = key.p[i];
		bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';

		if (!letter && !(i > 0 && c >= '0' && c <= '9'))
			return false;
	}
	return true;
}

int envs_check(json_t *envs, const char *field, struct err *err)
{
	size_t sum = 0;
	const char *key;
	json_t *v;

	if (json_object_size(envs) > ENVS_MAX)
		return err_field(err, -EINVAL, ERR_INVALID, field, "at most %u entries", ENVS_MAX);
	json_object_foreach (envs, key, v) {
		size_t n = json_string_length(v);

		if (!env_key_ok(str_c(key)))
			return err_field(err, -EINVAL, ERR_INVALID, field,
				"key must match ^[A-Za-z_][A-Za-z0-9_]*$: %.64s", key);
		if (!json_is_string(v))
			return err_field(err, -EINVAL, ERR_INVALID, field, "%.64s: expected a string",
				key);
		if (n > ENV_VALUE_MAX)
			return err_field(err, -EINVAL, ERR_INVALID, field,
				"%.64s: value longer than %u bytes", key, ENV_VALUE_MAX);
		if (memchr(json_string_value(v), 0, n))
			return err_field(err, -EINVAL, ERR_INVALID, field,
				"%.64s: value contains a NUL", key);
		sum += strlen(key) + n;
	}
	if (sum > ENVS_BYTES_MAX)
		return err_field(err, -EINVAL, ERR_INVALID, field, "larger than %u bytes in total",
			ENVS_BYTES_MAX);
	return 0;
}

static const char *const ssh_types[] = { "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256",
	"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "sk-ssh-ed25519@openssh.com",
	"sk-ecdsa-sha2-nistp256@openssh.com" };

int ssh_key_canonical(struct str line, struct buf *out, struct err *err)
{
	auto_buf struct buf blob = BUF_MAX(SSH_KEY_BYTES_MAX);
	struct str type, data, comment;
	bool known = false;

	while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
		line.n--;
	line = str_trim(line);
	if (line.n > SSH_KEY_BYTES_MAX || !str_utf8(line))
		return err_field(err, -EINVAL, ERR_INVALID, "ssh_pubkeys", "not a public key");
	for (size_t i = 0; i < line.n; i++)
		if ((unsigned char)line.p[i] < ' ' && line.p[i] != '\t')
			return err_field(err, -EINVAL, ERR_INVALID, "ssh_pubkeys",
				"a key must be one line");
	type = str_cut(&line, ' ');
	line = str_trim(line);
	data = str_cut(&line, ' ');
	comment = str_trim(line);
	for (size_t i = 0; i < ARRAY_SIZE(ssh_types); i++)
		known = known || str_eq_c(type, ssh_types[i]);
	if (!known)
		return err_field(err, -EINVAL, ERR_INVALID, "ssh_pubkeys",
			"not a public key of a known type (options are not accepted)");
	/* The blob repeats the type: u32 length, text. */
	if (base64_decode(data, &blob) < 0 || blob.n < 4 + type.n + 4 ||
		blob.p[0] || blob.p[1] || blob.p[2] || (uint8_t)blob.p[3] != type.n ||
		!str_eq(str_n(blob.p + 4, type.n), type))
		return err_field(err, -EINVAL, ERR_INVALID, "ssh_pubkeys",
			"the key's data does not match its type");
	buf_fmt(out, STR_FMT " " STR_FMT, STR_ARG(type), STR_ARG(data));
	if (comment.n)
		buf_fmt(out, " " STR_FMT, STR_ARG(comment));
	return buf_failed(out);
}

/* Type and data, without the comment. */
static struct str key_identity(struct str key)
{
	ssize_t first = str_find(key, ' ');
	ssize_t second = first < 0 ? -1 : str_find(str_skip(key, (size_t)first + 1), ' ');

	return second < 0 ? key : str_n(key.p, (size_t)(first + 1 + second));
}

static bool has_key(json_t *have, struct str key)
{
	size_t i;
	json_t *v;

	json_array_foreach (have, i, v)
		if (str_eq(key_identity(str_n(json_string_value(v), json_string_length(v))),
			    key_identity(key)))
			return true;
	return false;
}

int ssh_keys_merge(json_t *have, json_t *keys, const char *field, struct err *err)
{
	size_t i;
	json_t *v;

	json_array_foreach (keys, i, v) {
		auto_buf struct buf canon = BUF_MAX(SSH_KEY_BYTES_MAX * 2);
		int r;

		if (!json_is_string(v))
			return err_field(err, -EINVAL, ERR_INVALID, field, "expected strings");
		r = ssh_key_canonical(str_n(json_string_value(v), json_string_length(v)), &canon, err);
		if (r < 0) {
			if (err)
				snprintf(err->field, sizeof(err->field), "%s", field);
			return r;
		}
		if (has_key(have, buf_str(&canon)))
			continue;
		if (json_array_size(have) >= SSH_KEYS_MAX)
			return err_field(err, -E2BIG, ERR_INVALID, field, "at most %u keys",
				SSH_KEYS_MAX);
		if (json_array_append_new(have, json_stringn(canon.p, canon.n)) < 0)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	return 0;
}
