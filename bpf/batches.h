/* SPDX-License-Identifier: GPL-2.0-only */
/* Batches: the pages that reclaim isolates from an LRU list in one go, and what becomes of them. */
#ifndef MMWATCH_BATCHES_H
#define MMWATCH_BATCHES_H

#include "brackets.h"

#ifdef CTX_lru_isolate
/* By its name (kernel/kthread.c). Any task could take it, but it is trusted only until kswapd is next seen to wake. */
static __always_inline bool is_kswapd(void)
{
	char comm[COMM_BYTES] = {};

	bpf_get_current_comm(&comm, sizeof(comm));
	return comm[0] == 'k' && comm[1] == 's' && comm[2] == 'w' && comm[3] == 'a' && comm[4] == 'p' && comm[5] == 'd';
}

/*
 * Only this event adds up to pgscan exactly: a batch that isolates nothing has no shrink_inactive event. pgscan counts
 * isolated pages on the multi-generational LRU (scan_folios), and scanned pages on the classic one (isolate_lru_folios).
 */
int on_lru_isolate(struct CTX_lru_isolate *ctx)
{
	u64 task = bpf_get_current_task(), pages = ARG_lru_isolate_nr_scanned, taken = ARG_lru_isolate_nr_taken;
	u32 lru = ARG_lru_isolate_lru, zero = 0;
	struct control *c = control.lookup(&zero);
	struct thread *t;
	struct place at;

	if (!c || !inside(task, &t))
		return 0;
	/* kswapd may have been awake for hours when mmwatch started. Each of its batches starts with this event. */
	if (t && !t->first_row && is_kswapd()) {
		open_bracket(t, &t->outer, task, bpf_ktime_get_ns(), PATH_KSWAPD, node_here(), 0, 0, 0, 0);
		t->outer.unseen = 1;
		t->depth = 1;
	}
	if (lru != 0 && lru != 2)
		return 0;
	/* Load both first: the verifier rejects a context pointer chosen between two fields. */
	asm volatile("" : "+r"(pages), "+r"(taken));
	if (c->lru_gen)
		pages = taken;
	if (t && t->depth) {
		/* This event does not name the node; the batch that follows does. */
		if (!pages)
			return 0;
		if (!t->pending_file_pages && !t->pending_anon_pages)
			t->pending_row = bracket_of(t)->row;
		if (find(&at, t->pending_row))
			ADD(&at, pending_pages, pages);
		if (lru)
			t->pending_file_pages += pages;
		else
			t->pending_anon_pages += pages;
		bracket_of(t)->scanned_pages += pages;
		return 0;
	}
	if (!find_inside(&at, t, task, node_here()))
		return 0;
	if (lru)
		ADD(&at, scanned_file_pages, pages);
	else
		ADD(&at, scanned_anon_pages, pages);
	ADD(&at, events, 1);
	return 0;
}
#endif

#ifdef CTX_lru_shrink_inactive
/* Why pages of a batch were not reclaimed: struct reclaim_stat, include/linux/vmstat.h. */
struct batch_stat {
	u32 dirty, writeback, immediate, activated, referenced, unmap_failed;
};

int on_lru_shrink_inactive(struct CTX_lru_shrink_inactive *ctx)
{
	u64 task = bpf_get_current_task(), reclaimed = ARG_lru_shrink_inactive_nr_reclaimed;
	u64 scanned = ARG_lru_shrink_inactive_nr_scanned;
	s32 node = ARG_lru_shrink_inactive_nid;
	u32 priority = ARG_lru_shrink_inactive_priority;
	u32 file = ARG_lru_shrink_inactive_file;
	struct batch_stat stat = {};
	struct bracket *b = 0;
	struct thread *t;
	struct place at;

	if (!inside(task, &t))
		return 0;
#ifdef RAW_lru_shrink_inactive
	u64 from = ARG_lru_shrink_inactive_stat;

	stat.dirty = read_u32(from + OFF_reclaim_stat_nr_dirty);
	stat.writeback = read_u32(from + OFF_reclaim_stat_nr_writeback);
	stat.immediate = read_u32(from + OFF_reclaim_stat_nr_immediate);
	stat.activated = read_u32(from + OFF_reclaim_stat_nr_activate);
	stat.activated += read_u32(from + OFF_reclaim_stat_nr_activate + 4);
	stat.referenced = read_u32(from + OFF_reclaim_stat_nr_ref_keep);
	stat.unmap_failed = read_u32(from + OFF_reclaim_stat_nr_unmap_fail);
#else
	file &= 2; /* the trace record has RECLAIM_WB_FILE there, include/trace/events/vmscan.h */
	stat.dirty = ctx->nr_dirty;
	stat.writeback = ctx->nr_writeback;
	stat.immediate = ctx->nr_immediate;
	stat.activated = ctx->nr_activate0 + ctx->nr_activate1;
	stat.referenced = ctx->nr_ref_keep;
	stat.unmap_failed = ctx->nr_unmap_fail;
#endif
	if (t && t->depth)
		b = bracket_of(t);
	if (!find_inside(&at, t, task, node))
		return 0;
	if (b) {
		if (!b->batches && !b->passes)
			move_bracket(b, &at, task);
		b->batches++;
		b->reclaimed_pages += reclaimed;
		if (priority < b->priority)
			b->priority = priority;
		if (b->path == PATH_KSWAPD)
			settle(b, task, bpf_ktime_get_ns(), true);
	}
	if (t)
		flush_pending(t, &at);
	if (file)
		ADD(&at, reclaimed_file_pages, reclaimed);
	else
		ADD(&at, reclaimed_anon_pages, reclaimed);
	ADD(&at, batches, 1);
	ADD(&at, dirty_pages, stat.dirty);
	ADD(&at, writeback_pages, stat.writeback);
	ADD(&at, immediate_pages, stat.immediate);
	ADD(&at, activated_pages, stat.activated);
	ADD(&at, referenced_pages, stat.referenced);
	ADD(&at, unmap_failed_pages, stat.unmap_failed);
	ADD(&at, priority_histogram[masked(priority, SLOTS(PRIORITIES))], 1);
	ADD(&at, events, 1);
#ifdef DETAIL_PAGES
	if (streams(RECORD_BATCH)) {
		struct record record = {
			.time_ns = bpf_ktime_get_ns(),
			.scanned_pages = scanned,
			.reclaimed_pages = reclaimed,
			.kind = RECORD_BATCH,
			.path = b ? b->path : PATH_OTHER,
			.node = node,
			.priority = priority,
			.file = file != 0,
		};
		emit(&record, at.row, task);
	}
#endif
	return 0;
}
#endif

#ifdef CTX_lru_shrink_active
int on_lru_shrink_active(struct CTX_lru_shrink_active *ctx)
{
	u64 task = bpf_get_current_task();
	u32 priority = ARG_lru_shrink_active_priority;
	struct thread *t;
	struct place at;

	if (!inside(task, &t) || !find_inside(&at, t, task, ARG_lru_shrink_active_nid))
		return 0;
	ADD(&at, active_batches, 1);
	ADD(&at, active_taken_pages, ARG_lru_shrink_active_nr_taken);
	ADD(&at, deactivated_pages, ARG_lru_shrink_active_nr_deactivated);
	ADD(&at, priority_histogram[masked(priority, SLOTS(PRIORITIES))], 1);
	if (t && t->depth && priority < bracket_of(t)->priority)
		bracket_of(t)->priority = priority;
	ADD(&at, events, 1);
	return 0;
}
#endif

#endif
