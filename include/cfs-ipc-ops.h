/*
 * The numbers of the requests to pmxcfs. Perl's constants are made from the lines with #define, so
 * each stands on one line.
 *
 * This file is made from the daemon's source; do not edit it.
 */
#ifndef PMXCFS_CFS_IPC_OPS_H
#define PMXCFS_CFS_IPC_OPS_H

#define CFS_IPC_GET_FS_VERSION 1
#define CFS_IPC_GET_CLUSTER_INFO 2
#define CFS_IPC_GET_GUEST_LIST 3
#define CFS_IPC_SET_STATUS 4
#define CFS_IPC_GET_STATUS 5
#define CFS_IPC_GET_CONFIG 6
#define CFS_IPC_LOG_CLUSTER_MSG 7
#define CFS_IPC_GET_CLUSTER_LOG 8
#define CFS_IPC_GET_RRD_DUMP 10
#define CFS_IPC_GET_GUEST_CONFIG_PROPERTY 11
#define CFS_IPC_VERIFY_TOKEN 12
#define CFS_IPC_GET_GUEST_CONFIG_PROPERTIES 13

/* Requests that stock daemons answer with ECHRNG; not among Perl's constants. */
#define PMXCFS_IPC_GET_DAEMON_STATUS 64
#define PMXCFS_IPC_GET_CHANGES 65

#endif
