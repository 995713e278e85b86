/* SPDX-License-Identifier: GPL-2.0-only */
/* kswapd's brackets. There is one wake event per balance_pgdat call, but there may be many calls before a sleep event. */
#ifndef MMWATCH_KSWAPD_H
#define MMWATCH_KSWAPD_H

#include "brackets.h"

static __always_inline void kswapd_stop(u64 task, u64 now, u64 reported_pages)
{
	struct thread *t = known_thread(task);

	if (!t || !t->depth || t->outer.path != PATH_KSWAPD)
		return;
	if (t->depth == 2)
		abandon(&t->inner);
	/* Without a report, use the sum of its batches, plus the pages of nested reclaims, which finish() subtracts. */
	if (!reported_pages)
		reported_pages = t->outer.reclaimed_pages + t->outer.nested_pages;
	finish(t, &t->outer, task, now, reported_pages);
	t->depth = 0;
}

#ifdef CTX_kswapd_wake
int on_kswapd_wake(struct CTX_kswapd_wake *ctx)
{
	kswapd_stop(bpf_get_current_task(), 0, 0);
	begin(PATH_KSWAPD, ARG_kswapd_wake_nid, ARG_kswapd_wake_order, 0, 0, 0);
	return 0;
}
#endif

#ifdef CTX_kswapd_sleep
int on_kswapd_sleep(struct CTX_kswapd_sleep *ctx)
{
	kswapd_stop(bpf_get_current_task(), 0, 0);
	return 0;
}
#endif

#ifdef CTX_balance_pgdat_end
int on_balance_pgdat_end(struct CTX_balance_pgdat_end *ctx)
{
	kswapd_stop(bpf_get_current_task(), bpf_ktime_get_ns(), ARG_balance_pgdat_end_nr_reclaimed);
	return 0;
}
#endif

#endif
