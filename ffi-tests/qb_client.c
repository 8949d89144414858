/*
 * A client as programs write it for libqb: built against the stock library, run on that and on ours.
 * Each command prints what it saw, one fact a line, and exits 0 if it could be done at all.
 *
 * Requests understood by both test services: 1 = echo the body, 4 = wait, 5 = answer as many bytes
 * as the u32 in the body says.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <qb/qbdefs.h>
#include <qb/qbutil.h>
#include <qb/qblog.h>
#include <qb/qbipcc.h>

#include "check.h"

enum { ECHO = 1, WAIT = 4, LENGTH = 5, MAX_MESSAGE = 1 << 20 };

static char request_body[MAX_MESSAGE];
static char answer[2 * MAX_MESSAGE];

static void fail(const char *what, long result)
{
	fprintf(stderr, "%s: %ld, errno %d (%s)\n", what, result, errno, strerror(errno));
	exit(1);
}

static void say(const char *what, long value)
{
	printf("%s %ld\n", what, value);
	fflush(stdout);
}

static qb_ipcc_connection_t *connect_to(const char *service)
{
	qb_ipcc_connection_t *connection = qb_ipcc_connect(service, MAX_MESSAGE);
	if (!connection)
		fail("connect", -1);
	return connection;
}

static void fill(size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		request_body[i] = (char)(i * 31 + seed);
}

static struct qb_ipc_request_header header(int32_t id, size_t body_len)
{
	struct qb_ipc_request_header head = {0};
	head.id = id;
	head.size = (int32_t)(sizeof head + body_len);
	return head;
}

/* Sends a request with the first body_len bytes of request_body and waits for the answer. */
static ssize_t ask(qb_ipcc_connection_t *connection, int32_t id, size_t body_len)
{
	struct qb_ipc_request_header head = header(id, body_len);
	struct iovec parts[2] = {{&head, sizeof head}, {request_body, body_len}};
	return qb_ipcc_sendv_recv(connection, parts, 2, answer, sizeof answer, -1);
}

/* Whether the answer is the echo of the first body_len bytes of request_body. */
static void check_echo(ssize_t received, size_t body_len)
{
	struct qb_ipc_response_header head;
	size_t expected = sizeof head + body_len;
	if (received < 0 || (size_t)received != expected)
		fail("length of an echo", (long)received);
	memcpy(&head, answer, sizeof head);
	if (head.id != ECHO || (size_t)head.size != expected || head.error != 0)
		fail("header of an echo", head.error);
	if (memcmp(answer + sizeof head, request_body, body_len) != 0)
		fail("body of an echo", (long)body_len);
}

/* echo SERVICE ROUNDS SIZE...: each size in each round, with another content each time */
static void echo(const char *service, int rounds, int sizes, char **size)
{
	qb_ipcc_connection_t *connection = connect_to(service);
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < sizes; i++) {
			size_t len = strtoul(size[i], NULL, 10);
			fill(len, (unsigned)(round + i));
			check_echo(ask(connection, ECHO, len), len);
		}
	}
	say("echoed", (long)rounds * sizes);
	qb_ipcc_disconnect(connection);
}

/* pipeline SERVICE ID COUNT SIZE: sends all requests, then reads all answers. The bodies are of SIZE
 * for ECHO, the answers for LENGTH */
static void pipeline(const char *service, int id, int count, uint32_t size)
{
	qb_ipcc_connection_t *connection = connect_to(service);
	size_t body_len = id == ECHO ? size : sizeof size;
	struct qb_ipc_request_header head = header(id, body_len);
	fill(size, 7);
	if (id == LENGTH)
		memcpy(request_body, &size, sizeof size);
	for (int i = 0; i < count; i++) {
		struct iovec parts[2] = {{&head, sizeof head}, {request_body, body_len}};
		ssize_t sent = qb_ipcc_sendv(connection, parts, 2);
		if (sent < 0)
			fail("send", (long)sent);
	}
	for (int i = 0; i < count; i++) {
		ssize_t received = qb_ipcc_recv(connection, answer, sizeof answer, 10000);
		if (id == ECHO)
			check_echo(received, size);
		else if (received != (ssize_t)(sizeof(struct qb_ipc_response_header) + size))
			fail("length of an answer", (long)received);
	}
	say("pipelined", count);
	qb_ipcc_disconnect(connection);
}

/* length SERVICE REQUEST_BODY ANSWER: a request of one size, an answer of another; prints either
 * the error in the answer or the length of its data */
static void length(const char *service, size_t body_len, uint32_t answer_len)
{
	struct qb_ipc_response_header head;
	qb_ipcc_connection_t *connection = connect_to(service);
	say("buffer", qb_ipcc_get_buffer_size(connection));
	memcpy(request_body, &answer_len, sizeof answer_len);
	ssize_t received = ask(connection, LENGTH, body_len);
	if (received < (ssize_t)sizeof head)
		fail("answer", (long)received);
	memcpy(&head, answer, sizeof head);
	say("error", head.error);
	say("data", (long)received - (long)sizeof head);
	check_echo(ask(connection, ECHO, 10), 10);
	qb_ipcc_disconnect(connection);
}

/* ask SERVICE: sends what it reads, a line each: an id and a body in hex ("-" for none); prints the
 * error of each answer and its data in the same way */
static void ask_lines(const char *service)
{
	static char line[2 * MAX_MESSAGE + 32], hex[2 * MAX_MESSAGE + 32];
	struct qb_ipc_response_header head;
	qb_ipcc_connection_t *connection = connect_to(service);
	int32_t id;
	say("connected", 1);
	while (fgets(line, sizeof line, stdin) && sscanf(line, "%" SCNd32 " %s", &id, hex) == 2) {
		ssize_t received = ask(connection, id, parse_hex(hex, (unsigned char *)request_body, sizeof request_body));
		if (received < (ssize_t)sizeof head)
			fail("answer", (long)received);
		memcpy(&head, answer, sizeof head);
		if (head.size != received)
			fail("length of an answer", head.size);
		printf("%" PRId32 " ", head.error);
		for (ssize_t i = sizeof head; i < received; i++)
			printf("%02x", (unsigned char)answer[i]);
		printf(received > (ssize_t)sizeof head ? "\n" : "-\n");
		fflush(stdout);
	}
	qb_ipcc_disconnect(connection);
}

/* reconnect SERVICE COUNT */
static void reconnect(const char *service, int count)
{
	for (int i = 0; i < count; i++) {
		qb_ipcc_connection_t *connection = connect_to(service);
		fill(100, (unsigned)i);
		check_echo(ask(connection, ECHO, 100), 100);
		qb_ipcc_disconnect(connection);
	}
	say("connected", count);
}

/* refused SERVICE: prints the errno of connect */
static void refused(const char *service)
{
	qb_ipcc_connection_t *connection = qb_ipcc_connect(service, MAX_MESSAGE);
	say("errno", connection ? 0 : errno);
	if (connection)
		qb_ipcc_disconnect(connection);
}

/* hang SERVICE: waits in a request, to be killed */
static void hang(const char *service)
{
	qb_ipcc_connection_t *connection = connect_to(service);
	say("connected", 1);
	say("answer", (long)ask(connection, WAIT, 0));
}

/* hold SERVICE: an echo after each line of input; prints its length or negative errno */
static void hold(const char *service)
{
	char line[100];
	qb_ipcc_connection_t *connection = connect_to(service);
	say("connected", 1);
	while (fgets(line, sizeof line, stdin))
		say("answer", (long)ask(connection, ECHO, 10));
	qb_ipcc_disconnect(connection);
}

/* try SERVICE TIMEOUT: connects and asks, whatever comes of it */
static void try_once(const char *service, int timeout_ms)
{
	qb_ipcc_connection_t *connection = qb_ipcc_connect(service, MAX_MESSAGE);
	struct qb_ipc_request_header head = header(ECHO, 4);
	struct iovec parts[2] = {{&head, sizeof head}, {request_body, 4}};
	if (!connection) {
		say("errno", errno);
		return;
	}
	say("answer", (long)qb_ipcc_sendv_recv(connection, parts, 2, answer, sizeof answer, timeout_ms));
	say("connected", qb_ipcc_is_connected(connection));
	say("next", (long)qb_ipcc_recv(connection, answer, sizeof answer, 1));
	qb_ipcc_disconnect(connection);
}

/* edges SERVICE: what the functions say of what should not be, or not yet; SERVICE is of qb_server */
static void edges(const char *service)
{
	int32_t fd = -5;
	qb_log_init("qb_client", LOG_USER, LOG_EMERG);
	say("log", qb_log_ctl(QB_LOG_SYSLOG, QB_LOG_CONF_ENABLED, QB_TRUE));
	say("log to nowhere", qb_log_ctl(31, QB_LOG_CONF_ENABLED, QB_TRUE) < 0);
	say("nobody", qb_ipcc_connect("pmxcfs-test-nobody", MAX_MESSAGE) ? 0 : errno);
	say("null", (long)qb_ipcc_recv(NULL, answer, sizeof answer, 0));
	say("null", (long)qb_ipcc_send(NULL, answer, 1));
	say("null", qb_ipcc_get_buffer_size(NULL));
	qb_ipcc_connection_t *connection = connect_to(service);
	say("buffer", qb_ipcc_get_buffer_size(connection));
	qb_ipcc_connection_t *smallest = qb_ipcc_connect(service, 0);
	say("smallest buffer", qb_ipcc_get_buffer_size(smallest));
	qb_ipcc_disconnect(smallest);
	say("connected", qb_ipcc_is_connected(connection));
	say("fd", qb_ipcc_fd_get(connection, &fd));
	say("fd", fd >= 0);
	say("nothing yet", (long)qb_ipcc_recv(connection, answer, sizeof answer, 0));
	say("nothing soon", (long)qb_ipcc_recv(connection, answer, sizeof answer, 30));
	say("connected", qb_ipcc_is_connected(connection));
	struct qb_ipc_request_header head = header(WAIT, 0);
	struct iovec part = {&head, sizeof head};
	say("no answer", (long)qb_ipcc_sendv_recv(connection, &part, 1, answer, sizeof answer, 30));
	say("connected", qb_ipcc_is_connected(connection));
	fill(100, 3);
	check_echo(ask(connection, ECHO, 100), 100);
	struct iovec parts[2] = {{&head, sizeof head}, {request_body, MAX_MESSAGE}};
	say("too long", (long)qb_ipcc_sendv(connection, parts, 2));
	head = header(ECHO, 100);
	parts[1].iov_len = 100;
	say("sent", (long)qb_ipcc_sendv(connection, parts, 2));
	say("short buffer", (long)qb_ipcc_recv(connection, answer, 60, 5000));
	say("connected", qb_ipcc_is_connected(connection));
	qb_ipcc_disconnect(connection);
	connection = connect_to(service);
	memcpy(request_body + 200, &head, sizeof head);
	memcpy(request_body + 200 + sizeof head, request_body, 100);
	say("sent", (long)qb_ipcc_send(connection, request_body + 200, sizeof head + 100));
	check_echo(qb_ipcc_recv(connection, answer, sizeof answer, 5000), 100);
	qb_ipcc_disconnect(connection);
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";
	if (strcmp(command, "echo") == 0 && argc > 4)
		echo(argv[2], atoi(argv[3]), argc - 4, argv + 4);
	else if (strcmp(command, "pipeline") == 0 && argc == 6)
		pipeline(argv[2], atoi(argv[3]), atoi(argv[4]), (uint32_t)strtoul(argv[5], NULL, 10));
	else if (strcmp(command, "length") == 0 && argc == 5)
		length(argv[2], strtoul(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10));
	else if (strcmp(command, "ask") == 0 && argc == 3)
		ask_lines(argv[2]);
	else if (strcmp(command, "reconnect") == 0 && argc == 4)
		reconnect(argv[2], atoi(argv[3]));
	else if (strcmp(command, "refused") == 0)
		refused(argv[2]);
	else if (strcmp(command, "hang") == 0)
		hang(argv[2]);
	else if (strcmp(command, "try") == 0 && argc == 4)
		try_once(argv[2], atoi(argv[3]));
	else if (strcmp(command, "edges") == 0)
		edges(argv[2]);
	else if (strcmp(command, "hold") == 0)
		hold(argv[2]);
	else {
		fprintf(stderr, "usage: see the comments at each command\n");
		return 2;
	}
	return 0;
}
