/* TLS contexts: see the header. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include "base/clock.h"
#include "base/ulid.h"
#include "edge/ingress/tls.h"

#define SELF_DAYS 825 /* more is refused by some clients even of a trusted certificate */

static int failed(struct err *err, const char *what)
{
	char text[160];

	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	ERR_clear_error();
	return err_set(err, -EINVAL, ERR_INVALID, "%s: %s", what, text);
}

/* Clients that offer HTTP/2 beside HTTP/1.1 get the latter; those that offer only other things are
 * told so by the end of the handshake. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n,
	const unsigned char *in, unsigned int in_n, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *found;

	if (SSL_select_next_proto(&found, n, ours, sizeof(ours) - 1, in, in_n) !=
		OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *context_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
		SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets need no memory here */
	SSL_CTX_set_num_tickets(ctx, 1); /* a second is a fifteenth of a handshake, and seldom used */
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	return ctx;
}

static void context_take(struct tls *t, SSL_CTX *ctx)
{
	SSL_CTX_free(t->ctx);
	t->ctx = ctx;
}

void tls_done(struct tls *t)
{
	context_take(t, NULL);
}

/* --- a certificate of our own --- */

static int add_names(X509 *x, struct str domain)
{
	X509_EXTENSION *ext;
	char names[600];
	int r;

	snprintf(names, sizeof(names), "DNS:" STR_FMT ",DNS:*." STR_FMT, STR_ARG(domain),
		STR_ARG(domain));
	ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
	r = ext && X509_add_ext(x, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return r;
}

static X509 *certificate_new(EVP_PKEY *key, struct str domain)
{
	X509 *x = X509_new();
	X509_NAME *name;
	uint8_t serial[8];

	if (!x)
		return NULL;
	random_bytes(serial, sizeof(serial));
	serial[0] &= 0x7f;
	name = X509_get_subject_name(x);
	if (X509_set_version(x, 2) != 1 ||
		ASN1_STRING_set(X509_get_serialNumber(x), serial, sizeof(serial)) != 1 ||
		!X509_gmtime_adj(X509_getm_notBefore(x), -3600) ||
		!X509_gmtime_adj(X509_getm_notAfter(x), SELF_DAYS * 86400L) ||
		X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Weir", -1,
			-1, 0) != 1 ||
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
			(const unsigned char *)"Weir ingress", -1, -1, 0) != 1 ||
		X509_set_issuer_name(x, name) != 1 || X509_set_pubkey(x, key) != 1 ||
		!add_names(x, domain) || !X509_sign(x, key, EVP_sha256())) {
		X509_free(x);
		return NULL;
	}
	return x;
}

int tls_make(struct tls *t, struct str domain, struct err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key ? certificate_new(key, domain) : NULL;
	SSL_CTX *ctx = x ? context_new() : NULL;
	int r = 0;

	if (!ctx || SSL_CTX_use_certificate(ctx, x) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
		r = failed(err, "make a certificate");
	else
		context_take(t, take_ptr(ctx));
	SSL_CTX_free(ctx);
	X509_free(x);
	EVP_PKEY_free(key);
	return r;
}

/* --- one that was given --- */

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

static int use_chain(SSL_CTX *ctx, BIO *in)
{
	X509 *x = PEM_read_bio_X509_AUX(in, NULL, no_passphrase, NULL);
	int r = x && SSL_CTX_use_certificate(ctx, x) == 1;

	X509_free(x);
	while (r && (x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL))) {
		r = SSL_CTX_add0_chain_cert(ctx, x) == 1;
		if (!r)
			X509_free(x);
	}
	if (r)
		ERR_clear_error(); /* the end of the text is an error to PEM_read */
	return r;
}

int tls_load(struct tls *t, struct str cert, struct str key, struct err *err)
{
	BIO *cert_in = cert.n <= INT_MAX ? BIO_new_mem_buf(cert.p, (int)cert.n) : NULL;
	BIO *key_in = key.n <= INT_MAX ? BIO_new_mem_buf(key.p, (int)key.n) : NULL;
	SSL_CTX *ctx = cert_in && key_in ? context_new() : NULL;
	EVP_PKEY *pkey = NULL;
	int r = 0;

	if (!ctx)
		r = failed(err, "certificate");
	else if (!use_chain(ctx, cert_in))
		r = failed(err, "certificate: no PEM text of a certificate");
	else if (!(pkey = PEM_read_bio_PrivateKey(key_in, NULL, no_passphrase, NULL)))
		r = failed(err, "certificate's key: no PEM text of a private key without passphrase");
	else if (SSL_CTX_use_PrivateKey(ctx, pkey) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		r = failed(err, "certificate and key do not belong together");
	else
		context_take(t, take_ptr(ctx));
	EVP_PKEY_free(pkey);
	SSL_CTX_free(ctx);
	BIO_free(cert_in);
	BIO_free(key_in);
	return r;
}

SSL *tls_accept(const struct tls *t, int fd)
{
	SSL *ssl = SSL_new(t->ctx);

	if (ssl && SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		ssl = NULL;
	}
	if (ssl)
		SSL_set_accept_state(ssl);
	return ssl;
}
