/* SPDX-License-Identifier: GPL-2.0-only */
/* The target of a reclaim: the memory cgroup whose limit binds. The event of its begin names it, or its first pass. */
#ifndef MMWATCH_TARGETS_H
#define MMWATCH_TARGETS_H

#include "passes.h"
#include "who.h"

/* A raw tracepoint has a pointer to the cgroup, a trace record its ID. */
#if defined(ARG_memcg_reclaim_begin_memcg) && defined(MEMCG_ID)
#define TARGET_memcg_reclaim_begin memcg_id(ARG_memcg_reclaim_begin_memcg)
#elif defined(ARG_memcg_reclaim_begin_memcg_id)
#define TARGET_memcg_reclaim_begin ARG_memcg_reclaim_begin_memcg_id
#else
#define TARGET_memcg_reclaim_begin 0
#if defined(PASSES) && defined(MEMCG_ID) && defined(OFF_scan_control_target_mem_cgroup)
#define TARGET_BY_PASS
#endif
#endif

#if defined(ARG_softlimit_reclaim_begin_memcg) && defined(MEMCG_ID)
#define TARGET_softlimit_reclaim_begin memcg_id(ARG_softlimit_reclaim_begin_memcg)
#elif defined(ARG_softlimit_reclaim_begin_memcg_id)
#define TARGET_softlimit_reclaim_begin ARG_softlimit_reclaim_begin_memcg_id
#else
#define TARGET_softlimit_reclaim_begin 0
#endif

#endif
