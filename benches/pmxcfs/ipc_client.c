/* The stock client library, driven by lines: what a stock program would send, timed where it is sent.
 *
 *   connect COUNT            connect and disconnect COUNT times
 *   call ID COUNT HEXBODY    one request COUNT times, on one connection ("-" for no body)
 *
 * Each answer is a line: nanoseconds of all COUNT, error of the last answer, its bytes of data.
 * Built against the run-time library alone, so the few declarations of it are here. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

typedef struct qb_ipcc_connection qb_ipcc_connection_t;
qb_ipcc_connection_t *qb_ipcc_connect(const char *name, size_t max_msg_size);
ssize_t qb_ipcc_sendv_recv(qb_ipcc_connection_t *c, const struct iovec *iov, uint32_t iov_len, void *msg,
                           size_t msg_len, int32_t ms_timeout);
void qb_ipcc_disconnect(qb_ipcc_connection_t *c);

enum { MESSAGE_MAX = 8192 * 128 };

struct request_header {
    int32_t id __attribute__((aligned(8)));
    int32_t size __attribute__((aligned(8)));
} __attribute__((aligned(8)));

struct response_header {
    int32_t id __attribute__((aligned(8)));
    int32_t size __attribute__((aligned(8)));
    int32_t error __attribute__((aligned(8)));
} __attribute__((aligned(8)));

static const char *service;
static qb_ipcc_connection_t *connection;
static char answer[MESSAGE_MAX];
static char line[2 * MESSAGE_MAX], hex[2 * MESSAGE_MAX];
static unsigned char body[MESSAGE_MAX];

static void fail(const char *what)
{
    fprintf(stderr, "ipc_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static qb_ipcc_connection_t *connect_once(void)
{
    qb_ipcc_connection_t *c = qb_ipcc_connect(service, MESSAGE_MAX);
    if (!c) {
        fail("connect");
    }
    return c;
}

static void run_connect(int count)
{
    int64_t start = now();
    for (int i = 0; i < count; i++) {
        qb_ipcc_disconnect(connect_once());
    }
    printf("%lld 0 0\n", (long long)(now() - start));
}

static size_t parse_body(void)
{
    size_t length = 0;
    unsigned int byte;
    while (sscanf(hex + 2 * length, "%2x", &byte) == 1) {
        body[length++] = byte;
    }
    return length;
}

static void run_calls(int id, int count)
{
    size_t length = parse_body();
    struct request_header header = {id, (int32_t)(sizeof(header) + length)};
    struct iovec parts[2] = {{&header, sizeof(header)}, {body, length}};
    struct response_header *response = (struct response_header *)answer;
    int64_t start = now();
    for (int i = 0; i < count; i++) {
        ssize_t got = qb_ipcc_sendv_recv(connection, parts, 2, answer, sizeof(answer), -1);
        if (got < (ssize_t)sizeof(*response)) {
            errno = got < 0 ? (int)-got : EIO;
            fail("request");
        }
    }
    int64_t took = now() - start;
    printf("%lld %d %d\n", (long long)took, response->error, response->size - (int)sizeof(*response));
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: ipc_client SERVICE\n");
        return 1;
    }
    service = argv[1];
    connection = connect_once();
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof(line), stdin)) {
        int id, count;
        if (sscanf(line, "connect %d", &count) == 1) {
            run_connect(count);
        } else if (sscanf(line, "call %d %d %s", &id, &count, hex) == 3) {
            run_calls(id, count);
        } else {
            fprintf(stderr, "ipc_client: not a command: %s", line);
            return 1;
        }
    }
    qb_ipcc_disconnect(connection);
    return 0;
}
