/*
 * The client of pmxcfs, the Proxmox cluster configuration file system.
 *
 * Link with -lpmxcfs; `pkg-config --cflags --libs pmxcfs` knows where it is. Numbers of requests are in
 * cfs-ipc-ops.h.
 *
 * Results. Functions return 0 or a negative errno, if nothing else is said; pmxcfs_error_text says more.
 * Every pointer may be NULL where that is said; elsewhere NULL gives -EINVAL, never a crash. Strings end
 * in a NUL. What a function does not say it keeps, it does not use after it has returned.
 *
 * Threads. All functions may be called from any thread. Calls with the same pmxcfs_client wait for each
 * other, which does not count as time of the call; with a client for each thread they do not wait. A
 * pmxcfs_answer is for one thread at a time.
 *
 * Fork. A child may go on to use its parent's clients: its first call makes a connection of its own, and
 * the parent's is not disturbed. That is found out by the process id. If another thread was inside of a
 * call with that client at the time of the fork, calls return -EDEADLK in the child.
 *
 * Signals. No call ends early because of a signal. The library handles SIGBUS for memory that it shares
 * with the daemon, and passes on any other to the handler that was there before the first connect.
 *
 * Binary interface. A program runs with every later libpmxcfs.so.1, compiled against any earlier header.
 * Functions keep their meaning, and structs keep their layout; of those only pmxcfs_options can grow, at
 * its end, which its `size` is for. Each function has the symbol version of the release that added it.
 *
 * This file is made from the library's source; do not edit it.
 */

#ifndef PMXCFS_H
#define PMXCFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The version of this header. */
#define PMXCFS_VERSION "0.2.0"

/* The same as a number: a million for each major version, a thousand for each minor one. */
#define PMXCFS_VERSION_NUMBER 2000

/* The service of the daemon. */
#define PMXCFS_SERVICE "pve2"

/* The file that exists while the daemon is being restarted. */
#define PMXCFS_RESTART_FLAG "/run/pve-cluster/cfs-restart-flag"

/* Initializers, as constant expressions: pmxcfs_options options = PMXCFS_OPTIONS_INIT; */
#define PMXCFS_OPTIONS_INIT { sizeof(struct pmxcfs_options), PMXCFS_SERVICE, PMXCFS_MESSAGE_MAX, 10000, \
    PMXCFS_NO_LIMIT, PMXCFS_RESTART_FLAG, 10000, 1 }
#define PMXCFS_ANSWER_INIT { NULL, 0, 0, 0, NULL, 0 }


/**
 * The longest message, header included, that clients of the stack ask for.
 */
#define PMXCFS_MESSAGE_MAX 1048576

/**
 * Size of a status key or node name on the wire, with its NUL.
 */
#define PMXCFS_NAME_SIZE 256

/**
 * The longest value of a status key.
 */
#define PMXCFS_STATUS_MAX 32768

/**
 * The longest ident and the longest tag of a message to the cluster log, without the NUL.
 */
#define PMXCFS_LOG_IDENT_MAX 254

/**
 * The largest file of the tree; what a request can fetch is shorter by the headers.
 */
#define PMXCFS_FILE_MAX 1048576

/**
 * A time without limit.
 */
#define PMXCFS_NO_LIMIT -1

/**
 * A connection to the daemon. It is made anew, by the next call, when the daemon was restarted,
 * when a request took too long, and in the child after a fork.
 */
typedef struct pmxcfs_client pmxcfs_client;

/**
 * How to connect. Set it to PMXCFS_OPTIONS_INIT or call pmxcfs_options_init, then change single
 * fields. Strings need only live until pmxcfs_connect returns.
 *
 * Later versions may add fields at the end, for which 0 is the behaviour of today. The library reads
 * and writes no more than `size` bytes.
 */
typedef struct pmxcfs_options {
    /**
     * sizeof(pmxcfs_options) as the program was compiled. A larger size than the library knows is fine
     * if all bytes that the library does not know are 0.
     */
    size_t size;
    /**
     * The service. At first PMXCFS_SERVICE.
     */
    const char *service;
    /**
     * The longest message to send or receive, header included. At first PMXCFS_MESSAGE_MAX; the
     * daemon never agrees to more.
     */
    uint32_t message_max;
    /**
     * How long one attempt to connect may take. At first 10 s.
     */
    int32_t connect_timeout_ms;
    /**
     * How long the calls that name no time of their own may take. At first PMXCFS_NO_LIMIT: as long
     * as there is a daemon, as stock clients do.
     */
    int32_t timeout_ms;
    /**
     * While this file is there, a daemon that cannot be reached is waited for. At first
     * PMXCFS_RESTART_FLAG, as stock clients do; NULL for not to wait.
     */
    const char *restart_flag;
    /**
     * How long to wait for it; after that the file is removed. At first 10 s.
     */
    int32_t restart_timeout_ms;
    /**
     * Not 0: if the daemon ends before it has answered a request, connect anew and send that once
     * more, as stock clients do. At first 1. A request that takes too long is never sent again.
     */
    uint32_t resend;
} pmxcfs_options;

/**
 * An answer of the daemon. Set it to PMXCFS_ANSWER_INIT, or all zeros, before its first use. Use it
 * for any number of calls, in one thread at a time, and free it with pmxcfs_answer_free. The next call
 * with it overwrites its content.
 */
typedef struct pmxcfs_answer {
    /**
     * The data, followed by a NUL that `len` does not count; NULL if the call failed before there
     * was an answer. It belongs to the library.
     */
    const char *data;
    /**
     * How many bytes.
     */
    size_t len;
    /**
     * The number of the request that it answers.
     */
    int32_t id;
    /**
     * 0, or the negative errno that the daemon answered with.
     */
    int32_t error;
    /**
     * The library's own.
     */
    void *memory;
    /**
     * The library's own.
     */
    size_t capacity;
} pmxcfs_answer;

/**
 * What begins every request. Integers are in host order; send the padding as zeros.
 */
typedef struct pmxcfs_request_header {
    /**
     * What is asked: a number of cfs-ipc-ops.h.
     */
    int32_t id;
    int32_t id_padding;
    /**
     * Length of the whole request.
     */
    int32_t size;
    int32_t size_padding;
} pmxcfs_request_header;

/**
 * What begins every answer.
 */
typedef struct pmxcfs_response_header {
    /**
     * The number of the request.
     */
    int32_t id;
    int32_t id_padding;
    /**
     * Length of the whole answer.
     */
    int32_t size;
    int32_t size_padding;
    /**
     * 0 or a negative errno.
     */
    int32_t error;
    int32_t error_padding;
} pmxcfs_response_header;

/**
 * CFS_IPC_SET_STATUS; the value follows.
 */
typedef struct pmxcfs_set_status_request {
    char name[256];
} pmxcfs_set_status_request;

/**
 * CFS_IPC_GET_STATUS.
 */
typedef struct pmxcfs_get_status_request {
    char name[256];
    /**
     * Empty for this node.
     */
    char node[256];
} pmxcfs_get_status_request;

/**
 * CFS_IPC_LOG_CLUSTER_MSG; ident, tag and message follow, each with its NUL.
 */
typedef struct pmxcfs_log_cluster_msg_request {
    /**
     * As of syslog, 0 to 7.
     */
    uint8_t priority;
    /**
     * With the NUL.
     */
    uint8_t ident_size;
    /**
     * With the NUL.
     */
    uint8_t tag_size;
} pmxcfs_log_cluster_msg_request;

/**
 * CFS_IPC_GET_CLUSTER_LOG; the user's name follows with its NUL, empty for all users.
 */
typedef struct pmxcfs_get_cluster_log_request {
    /**
     * 0 for 50.
     */
    uint32_t entries_max;
    /**
     * Zeros.
     */
    uint32_t reserved[3];
} pmxcfs_get_cluster_log_request;

/**
 * CFS_IPC_GET_GUEST_CONFIG_PROPERTY; the property's name follows with its NUL. In
 * CFS_IPC_GET_GUEST_CONFIG_PROPERTIES a byte follows that counts names, then those, each with its
 * NUL.
 */
typedef struct pmxcfs_guest_config_property_request {
    /**
     * 0 for all guests.
     */
    uint32_t vmid;
} pmxcfs_guest_config_property_request;

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * Sets options of `size` bytes to the defaults, which are those of stock clients. Call
 * pmxcfs_options_init instead, a macro that passes the size. Returns 0; -EINVAL if options is NULL or
 * no version has options of this size.
 */
int32_t pmxcfs_options_init_sized(struct pmxcfs_options *options,
                                  size_t size);

/**
 * Sets options to the defaults, which are those of stock clients. Returns 0, or -EINVAL if options is
 * NULL.
 *
 * In C and C++ this is a macro for pmxcfs_options_init_sized. The function of this name is for programs
 * compiled against 0.1.0 or 0.2.0: it writes the fields up to `resend` and no others.
 */
int32_t pmxcfs_options_init(struct pmxcfs_options *options);

/**
 * Frees the memory of an answer; the answer is all zeros then and may be used again. NULL is fine.
 */
void pmxcfs_answer_free(struct pmxcfs_answer *answer);

/**
 * Connects to the daemon. `options` may be NULL for what pmxcfs_options_init gives.
 *
 * Returns 0 and the connection in `client`, which pmxcfs_disconnect frees; or a negative errno and
 * NULL in `client`: -ECONNREFUSED if there is no daemon, -EACCES if it does not serve this user,
 * -ETIMEDOUT, -EPERM if another user than root or this one has taken the service's name, -EINVAL.
 */
int32_t pmxcfs_connect(const struct pmxcfs_options *options, struct pmxcfs_client **client);

/**
 * Ends a connection and frees it; no other call with it may be under way or follow. NULL is fine. In
 * the child of a fork the parent's connection goes on.
 */
void pmxcfs_disconnect(struct pmxcfs_client *client);

/**
 * The socket of the connection, to be polled beside others: it hangs up when the daemon ends.
 * Nothing else may be done with it, and it may be another one after each call. -ENOTCONN while
 * there is no connection, -EINVAL.
 */
int32_t pmxcfs_fd(const struct pmxcfs_client *client);

/**
 * The longest message, header included, that the daemon has agreed to. -ENOTCONN while there is no
 * connection, -EINVAL.
 */
int32_t pmxcfs_message_max(const struct pmxcfs_client *client);

/**
 * Changes how long the calls that name no time of their own may take; negative is no limit. Returns
 * 0 or -EINVAL.
 */
int32_t pmxcfs_set_timeout(struct pmxcfs_client *client, int32_t timeout_ms);

/**
 * Sends any request: the number `id` with the `body_len` bytes at `body`, which is what follows the
 * header. Waits for the answer for `timeout_ms`; negative is as long as there is a daemon.
 *
 * Returns 0, or the negative errno that the daemon answered with (answer->error is the same then),
 * or another one: -ETIMEDOUT; -ENOTCONN if the daemon has ended, or -ECONNREFUSED if it is not back;
 * -EAGAIN if it took no more requests in that time; -EMSGSIZE; -ENOMEM if there is no memory for so
 * long a request or answer; -EBADMSG if what answers is no daemon; -EINVAL.
 */
int32_t pmxcfs_request(struct pmxcfs_client *client,
                       int32_t id,
                       const void *body,
                       size_t body_len,
                       int32_t timeout_ms,
                       struct pmxcfs_answer *answer);

/**
 * Fetches the text of `.version`: what has changed how often, as JSON.
 */
int32_t pmxcfs_get_fs_version(struct pmxcfs_client *client, struct pmxcfs_answer *answer);

/**
 * Fetches the text of `.members`: the nodes of the cluster, as JSON.
 */
int32_t pmxcfs_get_cluster_info(struct pmxcfs_client *client, struct pmxcfs_answer *answer);

/**
 * Fetches the text of `.vmlist`: the guests of the cluster, as JSON.
 */
int32_t pmxcfs_get_guest_list(struct pmxcfs_client *client, struct pmxcfs_answer *answer);

/**
 * Sets a key of this node's status to the `len` bytes at `value`; none removes it. -EPERM for a client
 * that may only read, -EFBIG for more than PMXCFS_STATUS_MAX bytes, -ENAMETOOLONG.
 */
int32_t pmxcfs_set_status(struct pmxcfs_client *client,
                          const char *name,
                          const void *value,
                          size_t len);

/**
 * Fetches a key of the status of `node`, or of this node if that is NULL or empty. -ENOENT if there
 * is none, -ENAMETOOLONG.
 */
int32_t pmxcfs_get_status(struct pmxcfs_client *client,
                          const char *name,
                          const char *node,
                          struct pmxcfs_answer *answer);

/**
 * Fetches a file of the tree. `path` begins below the mount point, with or without a slash. -ENOENT
 * if it is not there, is a directory or is generated; -EPERM for a private file and a client that
 * may only read; -ENOBUFS for a file that is longer than pmxcfs_message_max less the 24 bytes of the
 * header, which only the longest files of the tree are.
 */
int32_t pmxcfs_get_config(struct pmxcfs_client *client,
                          const char *path,
                          struct pmxcfs_answer *answer);

/**
 * Puts an entry into the cluster log. `priority` is one of syslog, 0 to 7; `ident` is the user,
 * `tag` the program, both up to PMXCFS_LOG_IDENT_MAX bytes. -EPERM for a client that may only read,
 * -ENAMETOOLONG, -EINVAL for another priority.
 */
int32_t pmxcfs_log_cluster_msg(struct pmxcfs_client *client,
                               uint8_t priority,
                               const char *ident,
                               const char *tag,
                               const char *message);

/**
 * Fetches the newest entries of the cluster log, as JSON: at most `entries_max`, 0 for 50; those of
 * `user`, or of all if that is NULL or empty.
 */
int32_t pmxcfs_get_cluster_log(struct pmxcfs_client *client,
                               uint32_t entries_max,
                               const char *user,
                               struct pmxcfs_answer *answer);

/**
 * Fetches the newest values of all RRD keys. The NUL at its end is part of the answer.
 */
int32_t pmxcfs_get_rrd_dump(struct pmxcfs_client *client, struct pmxcfs_answer *answer);

/**
 * Fetches one property of a guest's configuration, or of all guests' for `vmid` 0, as JSON. -ENOENT
 * if there is no such guest, -EINVAL for a VMID below 100.
 */
int32_t pmxcfs_get_guest_config_property(struct pmxcfs_client *client,
                                         uint32_t vmid,
                                         const char *property,
                                         struct pmxcfs_answer *answer);

/**
 * Checks whether an API token is known: `token` is "user!name value". Returns 0 if it is, -ENOENT if
 * not, also for a text that is no token; -EINVAL if it is empty or has a line break.
 */
int32_t pmxcfs_verify_token(struct pmxcfs_client *client,
                            const char *token);

/**
 * Fetches `count` properties, 1 to 255, of a guest's configuration, or of all guests' for `vmid` 0, as
 * JSON. -ENOENT if there is no such guest, -EINVAL for a VMID below 100 or a name that does not begin
 * with a letter from a to z.
 */
int32_t pmxcfs_get_guest_config_properties(struct pmxcfs_client *client,
                                           uint32_t vmid,
                                           const char *const *properties,
                                           size_t count,
                                           struct pmxcfs_answer *answer);

/**
 * Sends `fd` with the `len` bytes at `data` over a connected Unix socket, waiting until there is
 * room for it. On a stream nothing is sent without data: send at least a byte.
 *
 * Returns how many bytes of `data` were sent, or a negative errno; no SIGPIPE is raised. It may be
 * called from any thread and after a fork.
 */
ptrdiff_t pmxcfs_send_fd(int32_t socket, int32_t fd, const void *data, size_t len);

/**
 * What the last call that failed in this thread has to say about it: a line of English without a
 * line break, empty if none has failed. Never NULL, never to be freed; it is good until the next
 * call of this library in this thread.
 */
const char *pmxcfs_error_text(void);

/**
 * The version of the library as text, "0.2.0" for example; PMXCFS_VERSION is that of the header. Never
 * NULL. The text is static: never free it.
 */
const char *pmxcfs_version(void);

/**
 * The version of the library as a number, to be compared with PMXCFS_VERSION_NUMBER: 2000 for 0.2.0,
 * 1002003 for 1.2.3.
 */
uint32_t pmxcfs_version_number(void);

#ifdef __cplusplus
} /* extern "C" */
#endif /* __cplusplus */


/* Sets options to the defaults. Returns 0, or -EINVAL if options is NULL. */
#define pmxcfs_options_init(options) pmxcfs_options_init_sized((options), sizeof(struct pmxcfs_options))

#if defined(__cplusplus) && __cplusplus >= 201103L
#define PMXCFS_CHECK(fact) static_assert(fact, #fact)
#elif !defined(__cplusplus) && defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define PMXCFS_CHECK(fact) _Static_assert(fact, #fact)
#endif
#if defined(PMXCFS_CHECK) && UINTPTR_MAX > 0xffffffff
PMXCFS_CHECK(sizeof(struct pmxcfs_request_header) == 16);
PMXCFS_CHECK(offsetof(struct pmxcfs_request_header, id) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_request_header, size) == 8);
PMXCFS_CHECK(sizeof(struct pmxcfs_response_header) == 24);
PMXCFS_CHECK(offsetof(struct pmxcfs_response_header, id) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_response_header, size) == 8);
PMXCFS_CHECK(offsetof(struct pmxcfs_response_header, error) == 16);
PMXCFS_CHECK(sizeof(struct pmxcfs_set_status_request) == 256);
PMXCFS_CHECK(offsetof(struct pmxcfs_set_status_request, name) == 0);
PMXCFS_CHECK(sizeof(struct pmxcfs_get_status_request) == 512);
PMXCFS_CHECK(offsetof(struct pmxcfs_get_status_request, name) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_get_status_request, node) == 256);
PMXCFS_CHECK(sizeof(struct pmxcfs_log_cluster_msg_request) == 3);
PMXCFS_CHECK(offsetof(struct pmxcfs_log_cluster_msg_request, priority) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_log_cluster_msg_request, ident_size) == 1);
PMXCFS_CHECK(offsetof(struct pmxcfs_log_cluster_msg_request, tag_size) == 2);
PMXCFS_CHECK(sizeof(struct pmxcfs_get_cluster_log_request) == 16);
PMXCFS_CHECK(offsetof(struct pmxcfs_get_cluster_log_request, entries_max) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_get_cluster_log_request, reserved) == 4);
PMXCFS_CHECK(sizeof(struct pmxcfs_guest_config_property_request) == 4);
PMXCFS_CHECK(offsetof(struct pmxcfs_guest_config_property_request, vmid) == 0);
PMXCFS_CHECK(sizeof(struct pmxcfs_answer) == 40);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, data) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, len) == 8);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, id) == 16);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, error) == 20);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, memory) == 24);
PMXCFS_CHECK(offsetof(struct pmxcfs_answer, capacity) == 32);
PMXCFS_CHECK(sizeof(struct pmxcfs_options) == 48);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, size) == 0);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, service) == 8);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, message_max) == 16);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, connect_timeout_ms) == 20);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, timeout_ms) == 24);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, restart_flag) == 32);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, restart_timeout_ms) == 40);
PMXCFS_CHECK(offsetof(struct pmxcfs_options, resend) == 44);
#endif
#undef PMXCFS_CHECK

#endif  /* PMXCFS_H */
