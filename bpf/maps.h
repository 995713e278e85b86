/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State kept between events. All of it is preallocated, because all of it is used inside page reclaim. Row and slot
 * indices come from queues that user space fills, because BCC's compilers have no atomic add that returns a value.
 */
#ifndef MMWATCH_MAPS_H
#define MMWATCH_MAPS_H

#include "abi.h"
#include "read.h"

/* Where a task's CPU time stands (struct sched_entity, include/linux/sched.h). */
struct runtime {
	u64 exec_start_ns;
	u64 runtime_ns;
	u32 cpu;
};

/* A reclaim under way. */
struct bracket {
	struct runtime resume_runtime; /* at resume_ns */
	u64 resume_ns;		       /* when it began or resumed; 0 while a nested reclaim runs */
	u64 stall_ns;		       /* time in this reclaim up to resume_ns */
	u64 nested_pages;
	u64 target_id; /* as in struct row */
	u64 scanned_pages;
	u64 reclaimed_pages;
	u32 path;
	u32 row;
	u32 order;
	u32 gfp_flags;
	u32 asked_pages;
	u32 priority;
	u32 batches;
	u32 passes;
	u32 passes_added;	  /* passes already added to the row */
	u32 passes_fruitful;	  /* passes that freed something, not yet added to the row */
	u64 pass_begin_ns;	  /* begin of the first pass not yet added to the row; 0 if none */
	u64 pass_reclaimed_pages; /* count of the scan_control, or of the batches, when the pass began */
	u64 pass_scanned_pages;
	u32 pass_priority;
	s16 pass_node;
	u16 unseen; /* it began before mmwatch started: it has no duration and does not count as a reclaim */
};

/* State of a thread between events. Soft limit reclaim nests inside direct reclaim and kswapd. */
struct thread {
	struct bracket outer;
	struct bracket inner;
	u64 pending_file_pages; /* scanned; the batch that follows names their node */
	u64 pending_anon_pages;
	u32 pending_row; /* where pending_pages counts them */
	u32 high_row;	 /* where high_sleep_ns counts the sleep */
	u64 shrinker_begin_ns;
	u64 high_since_ns; /* when it fell asleep above memory.high; 0 if it is awake */
	u64 task;	   /* owner of this slot */
	u64 pid_tgid;	   /* detects an earlier thread at the same address whose end was not seen */
	u64 target_id;	   /* of the latest reclaim that had one */
	u64 named_ns;	   /* when a reclaim last refreshed comm and cgroup of the cached row */
	u32 depth;	   /* open brackets: 0, 1 or 2 */
	u32 begun;	   /* a begin was seen, so the next end belongs to one */
	u32 pass_pair;	   /* see pairs.h */
	u32 write_pair;	   /* likewise */
	u32 high_pair;	   /* likewise, of the begin of the sleep above memory.high */
	u32 high_end_pair; /* likewise, of its end */
	u32 first_row;
	u32 cached_row;
	u32 cached_path;
	s32 cached_node;
	s32 cached_cpu_node;
	u64 cached_target_id;
};

BPF_F_TABLE("array", u32, struct row, rows, ROWS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct control, control, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct stats, stats, 1, BPF_F_MMAPABLE);
BPF_QUEUE(free_rows, u32, ROWS);
/* Slots of threads by task_struct address: unlike a TID, the address is not reused before sched_process_free. */
BPF_HASH(slots, u64, u32, ROWS);
BPF_ARRAY(threads, struct thread, ROWS);
BPF_QUEUE(free_slots, u32, ROWS);
BPF_F_TABLE("array", u32, struct shrinker_work, shrinkers, SHRINKERS, BPF_F_MMAPABLE);
BPF_HASH(shrinker_entries, u64, u32, SHRINKERS); /* by the address of the function */
BPF_QUEUE(free_shrinkers, u32, SHRINKERS);
/* The slot last looked up on each CPU, because a reclaim looks up the same one again and again. */
BPF_PERCPU_ARRAY(latest_slot, u32, 1);
#ifdef DETAIL_PAGES
BPF_RINGBUF_OUTPUT(records, DETAIL_PAGES);
/* Only declared to get its layout: BCC reports layouts of table values, and a ring buffer has none. */
BPF_ARRAY(record_layout, struct record, 1);
#endif
#ifdef FILTER_TGID
BPF_HASH(watched_tgids, u32, u8, 65536);
#endif
#ifdef FOLLOW_CHILDREN
/* Processes added to watched_tgids when they were forked, by task_struct address: PID << 32 | number added. */
BPF_HASH(followed, u64, u64, 65536);
#endif

static __always_inline void count(u32 what)
{
	u32 zero = 0;
	struct stats *s = stats.lookup(&zero);

	if (s)
		__sync_fetch_and_add(&s->count[masked(what, SLOTS(STATS))], 1);
}

#endif
