/* SPDX-License-Identifier: GPL-2.0-only */
/* Single reclaims, batches and passes, streamed through the ring buffer on request. */
#ifndef MMWATCH_STREAM_H
#define MMWATCH_STREAM_H

#include "maps.h"
#include "who.h"

#ifdef DETAIL_PAGES
_Static_assert(STAT_LOST_BATCH - STAT_LOST_RECLAIM == RECORD_BATCH, "statistics are in the order of record kinds");
_Static_assert(STAT_LOST_PASS - STAT_LOST_RECLAIM == RECORD_PASS, "statistics are in the order of record kinds");
_Static_assert(STAT_SUPPRESSED_BATCH - STAT_SUPPRESSED_RECLAIM == RECORD_BATCH, "as above");
_Static_assert(STAT_SUPPRESSED_PASS - STAT_SUPPRESSED_RECLAIM == RECORD_PASS, "as above");

/* Whether records of this kind are wanted now. Check this before spending time on building one. */
static __always_inline bool streams(u32 kind)
{
	u32 zero = 0;
	struct control *c = control.lookup(&zero);

	return c && c->detail & (1 << kind);
}

static __always_inline void emit(struct record *from, struct row *row, u64 task)
{
	u32 zero = 0;
	struct control *c = control.lookup(&zero);
	struct record *to;

	if (!c)
		return;
	if ((s64)c->quota <= 0) {
		count(STAT_SUPPRESSED_RECLAIM + from->kind);
		return;
	}
	to = records.ringbuf_reserve(sizeof(*to));
	if (!to) {
		count(STAT_LOST_RECLAIM + from->kind);
		return;
	}
	__sync_fetch_and_add(&c->quota, -1);
	*to = *from;
	to->cpu = bpf_get_smp_processor_id();
	to->tgid = current_tgid(task);
	to->tid = current_tid(task);
	to->cgroup_id = row->cgroup_id;
	bpf_get_current_comm(&to->comm, sizeof(to->comm));
	records.ringbuf_submit(to, BPF_RB_NO_WAKEUP);
}
#endif

#endif
