/* A client library, driven by lines: what a program would send, timed where it is sent. The library is
 * stock libqb; with WITH_LIBPMXCFS it is ours.
 *
 *   connect COUNT            connect and disconnect COUNT times
 *   call ID COUNT HEXBODY    one request COUNT times, on one connection ("-" for no body)
 *
 * Each answer is a line: nanoseconds of all COUNT, error of the last answer, its bytes of data.
 * Built against libqb's run-time library alone, so the few declarations of it are here. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

enum { MESSAGE_MAX = 8192 * 128 };

static const char *service;
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

#ifdef WITH_LIBPMXCFS

#include <pmxcfs.h>

typedef pmxcfs_client connection;
static pmxcfs_answer answer;

static connection *connect_once(void)
{
    pmxcfs_options options;
    connection *made;
    pmxcfs_options_init(&options);
    options.service = service;
    errno = -pmxcfs_connect(&options, &made);
    return made ? made : (fail("connect"), NULL);
}

static void disconnect(connection *c)
{
    pmxcfs_disconnect(c);
}

/* Bytes of data in the answer, whose error goes to `error`. */
static int ask(connection *c, int id, size_t length, int *error)
{
    int result = pmxcfs_request(c, id, body, length, PMXCFS_NO_LIMIT, &answer);
    if (!answer.data) {
        errno = -result;
        fail("request");
    }
    *error = answer.error;
    return (int)answer.len;
}

#else

typedef struct qb_ipcc_connection qb_ipcc_connection_t;
qb_ipcc_connection_t *qb_ipcc_connect(const char *name, size_t max_msg_size);
ssize_t qb_ipcc_sendv_recv(qb_ipcc_connection_t *c, const struct iovec *iov, uint32_t iov_len, void *msg,
                           size_t msg_len, int32_t ms_timeout);
void qb_ipcc_disconnect(qb_ipcc_connection_t *c);

struct request_header {
    int32_t id __attribute__((aligned(8)));
    int32_t size __attribute__((aligned(8)));
} __attribute__((aligned(8)));

struct response_header {
    int32_t id __attribute__((aligned(8)));
    int32_t size __attribute__((aligned(8)));
    int32_t error __attribute__((aligned(8)));
} __attribute__((aligned(8)));

typedef qb_ipcc_connection_t connection;
static char answer[MESSAGE_MAX];

static connection *connect_once(void)
{
    connection *made = qb_ipcc_connect(service, MESSAGE_MAX);
    return made ? made : (fail("connect"), NULL);
}

static void disconnect(connection *c)
{
    qb_ipcc_disconnect(c);
}

static int ask(connection *c, int id, size_t length, int *error)
{
    struct request_header header = {id, (int32_t)(sizeof(header) + length)};
    struct iovec parts[2] = {{&header, sizeof(header)}, {body, length}};
    struct response_header *response = (struct response_header *)answer;
    ssize_t got = qb_ipcc_sendv_recv(c, parts, 2, answer, sizeof(answer), -1);
    if (got < (ssize_t)sizeof(*response)) {
        errno = got < 0 ? (int)-got : EIO;
        fail("request");
    }
    *error = response->error;
    return response->size - (int)sizeof(*response);
}

#endif

static void run_connect(int count)
{
    int64_t start = now();
    for (int i = 0; i < count; i++) {
        disconnect(connect_once());
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

static void run_calls(connection *c, int id, int count)
{
    size_t length = parse_body();
    int error = 0, size = 0;
    int64_t start = now();
    for (int i = 0; i < count; i++) {
        size = ask(c, id, length, &error);
    }
    printf("%lld %d %d\n", (long long)(now() - start), error, size);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: ipc_client SERVICE\n");
        return 1;
    }
    service = argv[1];
    connection *c = connect_once();
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof(line), stdin)) {
        int id, count;
        if (sscanf(line, "connect %d", &count) == 1) {
            run_connect(count);
        } else if (sscanf(line, "call %d %d %s", &id, &count, hex) == 3) {
            run_calls(c, id, count);
        } else {
            fprintf(stderr, "ipc_client: not a command: %s", line);
            return 1;
        }
    }
    disconnect(c);
    return 0;
}
