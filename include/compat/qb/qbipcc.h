/*
 * The client half of libqb, as far as clients of pmxcfs use it, for building them without libqb's
 * headers. The program then runs on libqb and on pmxcfs's own library alike.
 *
 * Lengths are those of whole messages, header included. Times are in milliseconds; -1 is as long as
 * there is a server. A negative result is a negative errno. A connection is for one thread at a time,
 * and for one process: a child needs its own.
 */
#ifndef PMXCFS_COMPAT_QBIPCC_H
#define PMXCFS_COMPAT_QBIPCC_H

#include <sys/types.h>
#include <sys/uio.h>

#include <qb/qbipc_common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qb_ipcc_connection qb_ipcc_connection_t;

/* Connects; NULL and errno if that fails. */
qb_ipcc_connection_t *qb_ipcc_connect(const char *name, size_t max_msg_size);

/* Ends a connection and frees it. */
void qb_ipcc_disconnect(qb_ipcc_connection_t *c);

/* The descriptor to poll; 0 if there is one. */
int32_t qb_ipcc_fd_get(qb_ipcc_connection_t *c, int32_t *fd);

/* The length of what was sent. */
ssize_t qb_ipcc_send(qb_ipcc_connection_t *c, const void *msg_ptr, size_t msg_len);
ssize_t qb_ipcc_sendv(qb_ipcc_connection_t *c, const struct iovec *iov, size_t iov_len);

/* The length of what was received; -ETIMEDOUT, -ENOBUFS if it is longer than msg_len. */
ssize_t qb_ipcc_recv(qb_ipcc_connection_t *c, void *msg_ptr, size_t msg_len, int32_t ms_timeout);
ssize_t qb_ipcc_sendv_recv(qb_ipcc_connection_t *c, const struct iovec *iov, uint32_t iov_len,
			   void *msg_ptr, size_t msg_len, int32_t ms_timeout);

/* The length of an event. Services of pmxcfs send none: -EAGAIN at the end of the time, -ENOTCONN. */
ssize_t qb_ipcc_event_recv(qb_ipcc_connection_t *c, void *msg_ptr, size_t msg_len, int32_t ms_timeout);

/* How strong a request to hold back is respected: 0 to 2. */
int32_t qb_ipcc_fc_enable_max_set(qb_ipcc_connection_t *c, uint32_t max);

/* 1, or 0 after an error that ended the connection. */
int32_t qb_ipcc_is_connected(qb_ipcc_connection_t *c);

/* The longest message that was agreed on. */
int32_t qb_ipcc_get_buffer_size(qb_ipcc_connection_t *c);

#ifdef __cplusplus
}
#endif

#endif
