/*
 * A server of stock libqb that echoes, for the native client and for our libqb to talk to:
 *
 *	qb_server SERVICE TRANSPORT	shm or socket; until killed
 *
 * Requests: 1 = echo the body, 4 = no answer, 5 = answer as many bytes as the u32 in the body says.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <qb/qbipcs.h>
#include <qb/qbloop.h>

enum { WAIT = 4, LENGTH = 5, MAX_MESSAGE = 1 << 20 };

static char answer[2 * MAX_MESSAGE];

static void fail(const char *what, long result)
{
	fprintf(stderr, "%s: %ld, errno %d (%s)\n", what, result, errno, strerror(errno));
	exit(1);
}

static qb_loop_t *loop;

static int32_t on_accept(qb_ipcs_connection_t *c, uid_t uid, gid_t gid)
{
	(void)c, (void)uid, (void)gid;
	return 0;
}

static void on_connection(qb_ipcs_connection_t *c)
{
	(void)c;
}

static int32_t on_closed(qb_ipcs_connection_t *c)
{
	(void)c;
	return 0;
}

static int32_t on_request(qb_ipcs_connection_t *c, void *data, size_t size)
{
	struct qb_ipc_request_header request;
	struct qb_ipc_response_header response = {0};
	memcpy(&request, data, sizeof request);
	if (request.id == WAIT)
		return 0;
	struct iovec parts[2] = {
		{&response, sizeof response},
		{(char *)data + sizeof request, size - sizeof request},
	};
	if (request.id == LENGTH) {
		uint32_t len;
		memcpy(&len, parts[1].iov_base, sizeof len);
		parts[1] = (struct iovec){answer, len};
	}
	response.id = request.id;
	response.size = (int32_t)(sizeof response + parts[1].iov_len);
	if (qb_ipcs_response_sendv(c, parts, 2) < 0)
		qb_ipcs_disconnect(c);
	return 0;
}

static int32_t job_add(enum qb_loop_priority p, void *data, qb_loop_job_dispatch_fn fn)
{
	return qb_loop_job_add(loop, p, data, fn);
}

static int32_t poll_add(enum qb_loop_priority p, int32_t fd, int32_t events, void *data,
			qb_ipcs_dispatch_fn_t fn)
{
	return qb_loop_poll_add(loop, p, fd, events, data, fn);
}

static int32_t poll_mod(enum qb_loop_priority p, int32_t fd, int32_t events, void *data,
			qb_ipcs_dispatch_fn_t fn)
{
	return qb_loop_poll_mod(loop, p, fd, events, data, fn);
}

static int32_t poll_del(int32_t fd)
{
	return qb_loop_poll_del(loop, fd);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: qb_server SERVICE shm|socket\n");
		return 2;
	}
	enum qb_ipc_type transport = strcmp(argv[2], "shm") == 0 ? QB_IPC_SHM : QB_IPC_SOCKET;
	struct qb_ipcs_service_handlers handlers = {
		.connection_accept = on_accept,
		.connection_created = on_connection,
		.connection_destroyed = on_connection,
		.connection_closed = on_closed,
		.msg_process = on_request,
	};
	struct qb_ipcs_poll_handlers polling = {
		.job_add = job_add,
		.dispatch_add = poll_add,
		.dispatch_mod = poll_mod,
		.dispatch_del = poll_del,
	};
	signal(SIGPIPE, SIG_IGN);
	loop = qb_loop_create();
	qb_ipcs_service_t *server = qb_ipcs_create(argv[1], 1, transport, &handlers);
	if (!loop || !server)
		fail("create", -1);
	qb_ipcs_poll_handlers_set(server, &polling);
	int32_t result = qb_ipcs_run(server);
	if (result != 0)
		fail("run", result);
	printf("serving 1\n");
	fflush(stdout);
	qb_loop_run(loop);
	return 0;
}
