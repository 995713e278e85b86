/* SPDX-License-Identifier: GPL-2.0-only */
/* Other work of reclaim: slab shrinkers, throttling, waking kswapd, writing pages. */
#ifndef MMWATCH_WORK_H
#define MMWATCH_WORK_H

#include "brackets.h"

#ifdef CTX_shrink_slab_start
int on_shrink_slab_start(struct CTX_shrink_slab_start *ctx)
{
	struct thread *t;

	if (inside(bpf_get_current_task(), &t) && t)
		t->shrinker_begin_ns = bpf_ktime_get_ns();
	return 0;
}
#endif

#ifdef CTX_shrink_slab_end
#ifdef RAW_shrink_slab_end
#define SHRINKER_FUNCTION read_u64(ARG_shrink_slab_end_shr + OFF_shrinker_scan_objects)
#else
#define SHRINKER_FUNCTION ((u64)ARG_shrink_slab_end_shrink)
#endif

/* Index of a function's entry, created if there is none; 0, the shared one, if that fails. */
static __always_inline u32 shrinker_entry(u64 function)
{
	u32 *known = shrinker_entries.lookup(&function), index = 0;
	struct shrinker_work *s;

	if (known)
		return *known;
	if (free_shrinkers.pop(&index))
		goto full;
	s = shrinkers.lookup(&index);
	if (!s)
		goto full;
	s->function = function;
	if (!shrinker_entries.insert(&function, &index))
		return index;
	/* Another CPU was faster. */
	s->function = 0;
	free_shrinkers.push(&index, 0);
	known = shrinker_entries.lookup(&function);
	if (known)
		return *known;
full:
	count(STAT_TABLE_FULL_SHRINKERS);
	return 0;
}

int on_shrink_slab_end(struct CTX_shrink_slab_end *ctx)
{
	u64 task = bpf_get_current_task(), ns;
	struct thread *t = known_thread(task);
	s32 freed = ARG_shrink_slab_end_retval;
	struct shrinker_work *s;
	struct place at;
	u32 index;

	if (!t || !t->shrinker_begin_ns)
		return 0;
	ns = bpf_ktime_get_ns() - t->shrinker_begin_ns;
	t->shrinker_begin_ns = 0;
	if (!find_inside(&at, t, task, ARG_shrink_slab_end_nid))
		return 0;
	ADD(&at, shrinker_calls, 1);
	ADD(&at, shrinker_ns, ns);
	if (freed < 0)
		freed = 0;
	ADD(&at, shrinker_objects, freed);
	ADD(&at, events, 1);
	index = shrinker_entry(SHRINKER_FUNCTION);
	s = shrinkers.lookup(&index);
	if (!s)
		return 0;
	__sync_fetch_and_add(&s->calls, 1);
	__sync_fetch_and_add(&s->objects, freed);
	__sync_fetch_and_add(&s->shrinker_ns, ns);
	return 0;
}
#endif

#ifdef CTX_throttled
int on_throttled(struct CTX_throttled *ctx)
{
	u64 task = bpf_get_current_task(), ns = 1000ULL * ARG_throttled_usec_delayed;
	u32 reason = ARG_throttled_reason;
	struct thread *t;
	struct place at;

#ifndef RAW_throttled
	/* The trace record holds 1 << reason. */
	reason = reason & 2 ? 1 : reason & 4 ? 2 : reason & 8 ? 3 : 0;
#endif
	if (!inside(task, &t) || !find_inside(&at, t, task, ARG_throttled_nid))
		return 0;
	reason = masked(reason, SLOTS(THROTTLE_REASONS));
	ADD(&at, throttled[reason], 1);
	ADD(&at, throttled_ns[reason], ns);
	ADD(&at, events, 1);
	return 0;
}
#endif

#ifdef CTX_write_folio
/* The folio; 0 where it is not known, because the trace record has only the number of its first page. */
#ifdef RAW_write_folio
#define WRITTEN_FOLIO ARG_write_folio_folio
#elif defined(VMEMMAP_BASE) /* include/asm-generic/memory_model.h, __pfn_to_page */
#define WRITTEN_FOLIO (read_u64(VMEMMAP_BASE) + ARG_write_folio_pfn * SIZE_page)
#else
#define WRITTEN_FOLIO 0
#endif

static __always_inline int wrote(u64 folio, u32 program)
{
	u64 task = bpf_get_current_task(), pages = 1;
	struct thread *t;
	struct place at;
	u32 index;

#ifdef OFF_folio_nr_pages
	if (folio && read_u64(folio) & (1ULL << PG_HEAD))
		pages = read_u32(folio + OFF_folio_nr_pages);
#endif
	if (!inside(task, &t))
		return 0;
#ifdef PAIR_write_folio
	if (t ? paired(&t->write_pair, program) : program != PAIR_FIRST)
		return 0;
#endif
	if (t)
		index = t->depth ? bracket_of(t)->row : row_of(t, task, PATH_OTHER, node_here(), 0);
	else
		index = PATH_OTHER;
	if (!find(&at, index))
		return 0;
	ADD(&at, written_pages, pages);
	ADD(&at, events, 1);
	return 0;
}

int on_write_folio(struct CTX_write_folio *ctx)
{
	return wrote(WRITTEN_FOLIO, PAIR_FIRST);
}

#ifdef PAIR_write_folio
int on_write_folio_pair(struct CTX_write_folio *ctx)
{
	return wrote(WRITTEN_FOLIO, PAIR_SECOND);
}
#endif
#endif

#ifdef CTX_wakeup_kswapd
int on_wakeup_kswapd(struct CTX_wakeup_kswapd *ctx)
{
	u64 task = bpf_get_current_task();
	struct thread *t;
	struct place at;

	if (!inside(task, &t) || !find_inside(&at, t, task, ARG_wakeup_kswapd_nid))
		return 0;
	ADD(&at, kswapd_wakeups, 1);
	ADD(&at, events, 1);
	return 0;
}
#endif

#endif
