/* SPDX-License-Identifier: GPL-2.0-only */
/* Passes: calls of shrink_node inside a reclaim, each a rung of the priority ladder. Probe: shrink_node.h. */
#ifndef MMWATCH_PASSES_H
#define MMWATCH_PASSES_H

#include "rows.h"
#include "stream.h"

#if defined(FENTRY_shrink_node) || defined(KPROBE_shrink_node)
#define PASSES

static __always_inline void add_passes(struct bracket *b, struct place *at)
{
	u32 passes = b->passes - b->passes_added;

	ADD(at, passes, passes);
	ADD(at, passes_futile, passes - b->passes_fruitful);
	b->passes_added = b->passes;
	b->passes_fruitful = 0;
}

/*
 * The pages that the pass freed: the growth of the scan_control's count. kswapd resets that count before each pass
 * (balance_pgdat), so for kswapd the caller passes the sum of its batches.
 */
static __always_inline u64 pass_took(struct bracket *b, struct place *at, u64 reclaimed_pages)
{
	u64 pages = reclaimed_pages - b->pass_reclaimed_pages;

	if (reclaimed_pages <= b->pass_reclaimed_pages)
		return 0;
	b->passes_fruitful++;
	ADD(at, pass_reclaimed_pages, pages);
	return pages;
}

/*
 * Ends the current pass. Earlier passes whose time has not been added share this time with it. Its scanned pages come
 * from its batches, because the scan_control cannot be read any more when the reclaim ends.
 */
static __always_inline void pass_over(struct bracket *b, struct place *at, u64 task, u64 now, u64 reclaimed_pages)
{
	u64 pages, ns = now - b->pass_begin_ns;

	if (!b->passes)
		return;
	pages = pass_took(b, at, b->path == PATH_KSWAPD ? b->reclaimed_pages : reclaimed_pages);
	b->pass_begin_ns = now;
	ADD(at, pass_ns, ns);
	add_passes(b, at);
#ifdef DETAIL_PAGES
	if (streams(RECORD_PASS)) {
		struct record record = {
			.time_ns = now,
			.duration_ns = ns,
			.asked_pages = b->asked_pages,
			.scanned_pages = b->scanned_pages - b->pass_scanned_pages,
			.reclaimed_pages = pages,
			.kind = RECORD_PASS,
			.path = b->path,
			.node = b->pass_node,
			.priority = b->pass_priority,
			.order = b->order,
			.gfp_flags = b->gfp_flags,
		};
		emit(&record, at->row, task);
	}
#endif
}
#endif

#endif
