/*
 * Perl's way to the daemon, on libpmxcfs. Results and $! are as programs of the stack expect them: undef
 * and an errno for an error, undef and 0 for an answer without data.
 */
#define PERL_NO_GET_CONTEXT
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"

#include <errno.h>

#include <pmxcfs.h>

/* Of an interpreter, so that threads do not share them. */
#define MY_CXT_KEY "Pmxcfs::IPCC::_guts" XS_VERSION
typedef struct {
	pmxcfs_client *client;
	pmxcfs_answer answer;
	/* NULL for the library's own. */
	char *service;
	char *restart_flag;
	int without_restart_flag;
} my_cxt_t;
START_MY_CXT

static int connect_client(my_cxt_t *context)
{
	pmxcfs_options options;
	pmxcfs_options_init(&options);
	if (context->service)
		options.service = context->service;
	if (context->restart_flag || context->without_restart_flag)
		options.restart_flag = context->restart_flag;
	return pmxcfs_connect(&options, &context->client);
}

static char *copy_of(pTHX_ SV *text)
{
	return SvOK(text) ? savepv(SvPV_nolen(text)) : NULL;
}

/* Only strings count as data, as in the stock module. */
static const char *string_in(pTHX_ SV *data, STRLEN *len)
{
	*len = 0;
	return data && SvPOK(data) ? SvPV(data, *len) : NULL;
}

/*
 * At the end of an interpreter, and so of its thread: the connection ends with it. Interpreters of threads inherit
 * the registration, so the context is looked up here.
 */
static void end_interpreter(pTHX_ void *data)
{
	dMY_CXT;
	PERL_UNUSED_VAR(data);
	pmxcfs_disconnect(MY_CXT.client);
	pmxcfs_answer_free(&MY_CXT.answer);
	Safefree(MY_CXT.service);
	Safefree(MY_CXT.restart_flag);
	Zero(&MY_CXT, 1, my_cxt_t);
}

MODULE = Pmxcfs::IPCC		PACKAGE = Pmxcfs::IPCC

BOOT:
{
	MY_CXT_INIT;
	Zero(&MY_CXT, 1, my_cxt_t);
	Perl_call_atexit(aTHX_ end_interpreter, NULL);
}

void
CLONE(...)
CODE:
	MY_CXT_CLONE;
	Zero(&MY_CXT, 1, my_cxt_t);
	PERL_UNUSED_VAR(items);

SV *
ipcc_send_rec(msgid, data = NULL)
	I32 msgid
	SV *data
PROTOTYPE: $;$
PREINIT:
	dMY_CXT;
	STRLEN len;
	const char *body;
	int result;
CODE:
	body = string_in(aTHX_ data, &len);
	result = MY_CXT.client ? 0 : connect_client(&MY_CXT);
	if (result == 0)
		result = pmxcfs_request(MY_CXT.client, msgid, body, len, PMXCFS_NO_LIMIT,
					&MY_CXT.answer);
	errno = -result;
	if (result != 0 || MY_CXT.answer.len == 0)
		XSRETURN_UNDEF;
	RETVAL = newSVpvn(MY_CXT.answer.data, MY_CXT.answer.len);
OUTPUT:
	RETVAL

int
sendfd(sock_fd, send_me_fd, data = NULL)
	int sock_fd
	int send_me_fd
	SV *data
PREINIT:
	STRLEN len;
	const char *bytes;
	ptrdiff_t sent;
CODE:
	bytes = string_in(aTHX_ data, &len);
	sent = pmxcfs_send_fd(sock_fd, send_me_fd, bytes, len);
	if (sent < 0)
		errno = (int)-sent;
	RETVAL = sent < 0 ? -1 : (int)sent;
OUTPUT:
	RETVAL

void
_configure(service, restart_flag)
	SV *service
	SV *restart_flag
PREINIT:
	dMY_CXT;
CODE:
	pmxcfs_disconnect(MY_CXT.client);
	MY_CXT.client = NULL;
	Safefree(MY_CXT.service);
	Safefree(MY_CXT.restart_flag);
	MY_CXT.service = copy_of(aTHX_ service);
	MY_CXT.restart_flag = copy_of(aTHX_ restart_flag);
	MY_CXT.without_restart_flag = !MY_CXT.restart_flag;
