/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that crosses between the kernel side and the front end, laid out once. Python takes these layouts from
 * what BCC reports. Only fixed-width members, widest first, so that no compiler adds padding; the unit is in the name.
 */
#ifndef MMWATCH_RECORDS_H
#define MMWATCH_RECORDS_H

#define COMM_BYTES 16
#define NODE_UNKNOWN (-1)
#define PRIORITY_UNKNOWN 255

/* Sizes of the arrays that are indexed in the kernel are powers of two: a mask is what every verifier believes. */
#define PRIORITIES 16	   /* 0 … DEF_PRIORITY (12), include/linux/mmzone.h */
#define ORDERS 16	   /* 0 … MAX_PAGE_ORDER (10), include/linux/mmzone.h */
#define THROTTLE_REASONS 4 /* enum vmscan_throttle_state, include/linux/mmzone.h: 5.16 and later */

/*
 * Stall times are counted in buckets four to the octave: bucket 0 is below 256 ns, the last one from 824 s. A bucket's
 * widest is 1 to 1.25, so its geometric middle is within 12 % of everything in it.
 */
#define STALL_SHIFT_MIN 8
#define STALL_BUCKETS 128

enum reclaim_path {
	PATH_OTHER, /* no bracket open: it began before we did, or has none (hibernation, drop_caches) */
	PATH_DIRECT,
	PATH_MEMCG,
	PATH_SOFTLIMIT,
	PATH_NODE,
	PATH_KSWAPD,
	PATH_PROACTIVE,
	PATHS,
};

enum row_state {
	ROW_FREE,
	ROW_LIVE,
	ROW_EXITED, /* its thread is gone: the front end folds it and hands the index back */
};

/*
 * One thread × path × node × node it ran on. Written only by its own thread, so plain additions are exact; the first PATHS rows are
 * the overflow rows, one for each path, shared by every thread that found no row of its own and added to atomically.
 * Counters only grow, but for the two that hold a maximum (see struct control).
 */
struct row {
	u64 events; /* anything happened: grows last, so that a reader who saw it grow sees the rest */
	u64 start_ns;
	u64 cgroup_id;
	u64 open_since_ns; /* a reclaim is under way since then (CLOCK_MONOTONIC), 0 if none */
	u64 reclaims;
	u64 reclaims_futile; /* ended with nothing reclaimed */
	u64 asked_pages;
	u64 reported_pages; /* what the end of the bracket reports: LRU and slab pages, without those of a nested one */
	u64 scanned_file_pages;
	u64 scanned_anon_pages;
	u64 reclaimed_file_pages;
	u64 reclaimed_anon_pages;
	u64 stall_ns; /* without the time of a nested reclaim */
	u64 batches;  /* of the inactive lists */
	u64 dirty_pages;
	u64 writeback_pages;
	u64 immediate_pages;
	u64 activated_pages;
	u64 referenced_pages;
	u64 unmap_failed_pages;
	u64 active_batches;
	u64 active_taken_pages;
	u64 deactivated_pages;
	u64 written_pages;
	u64 shrinker_calls;
	u64 shrinker_ns;
	u64 shrinker_objects;
	u64 kswapd_wakeups;
	u64 passes; /* calls of shrink_node that are over; like their time, often added when the reclaim is */
	u64 passes_futile;
	u64 pass_ns; /* from one call to the next, or to the end of the reclaim */
	u64 pass_reclaimed_pages;
	u64 throttled[THROTTLE_REASONS];
	u64 throttled_ns[THROTTLE_REASONS];
	u64 stall_max_ns[2];	    /* by control.epoch & 1 */
	u64 reclaimed_max_pages[2]; /* the most one reclaim took */
	u32 priority_histogram[PRIORITIES];
	u32 pass_histogram[PRIORITIES]; /* of all that began */
	u32 order_histogram[ORDERS];
	u32 stall_histogram[STALL_BUCKETS];
	u32 gfp_flags; /* of the latest reclaim */
	u32 state;
	u32 next; /* the thread's next row, 0 for none */
	u32 tgid; /* as the front end's PID namespace sees it, 0 if it does not */
	u32 tid;
	u32 path;
	s32 node;     /* the pages were taken from; where nothing was scanned, the node the task ran on */
	s32 cpu_node; /* the task ran on */
	char comm[COMM_BYTES];
};

/* A reclaim under way. */
struct bracket {
	u64 resume_ns; /* when its own time last began to run, 0 while a nested one does */
	u64 stall_ns;  /* up to then */
	u64 nested_pages;
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
	u32 passes_added;	  /* of them, to the row */
	u32 passes_fruitful;	  /* that freed something, not added yet */
	u64 pass_begin_ns;	  /* of the first pass that is not added yet, 0 without any */
	u64 pass_reclaimed_pages; /* by the scan_control, or the batches, when it began */
	u64 pass_scanned_pages;
	u32 pass_priority;
	s16 pass_node;
	u16 unseen; /* it began before we came: it has no duration, and is no reclaim of ours */
};

/* What is remembered of a thread between events; soft limit reclaim runs inside direct reclaim and kswapd. */
struct thread {
	struct bracket outer;
	struct bracket inner;
	u64 pending_file_pages; /* isolated; the batch that follows says from which node */
	u64 pending_anon_pages;
	u64 shrinker_begin_ns;
	u64 task;     /* whose slot this is */
	u64 pid_tgid; /* tells it from an earlier thread at the same address whose end was not seen */
	u64 named_ns; /* when comm and cgroup of the cached row were last looked at by a reclaim that began */
	u32 depth;    /* brackets open: 0, 1, 2 */
	u32 pass_by;  /* of two programs the one that has seen a pass, until the other one has, too */
	u32 write_by; /* the same of a page written */
	u32 first_row;
	u32 cached_row;
	u32 cached_path;
	s32 cached_node;
	s32 cached_cpu_node;
};

enum record_kind {
	RECORD_RECLAIM,
	RECORD_BATCH,
	RECORD_PASS,
	RECORD_KINDS,
};

/* One reclaim, pass or batch, through the ring buffer. All kinds are of one size: a drain is one array view. */
struct record {
	u64 time_ns; /* CLOCK_MONOTONIC, at its end */
	u64 duration_ns;
	u64 cgroup_id;
	u64 asked_pages;
	u64 scanned_pages;
	u64 reclaimed_pages;
	u32 kind;
	u32 cpu;
	u32 tgid;
	u32 tid;
	u32 path;
	s32 node;
	u32 priority; /* the lowest reached; PRIORITY_UNKNOWN if no batch told */
	u32 order;
	u32 gfp_flags;
	u32 file; /* batch: of a file list */
	char comm[COMM_BYTES];
};

/* Written by the front end, read by the kernel side. */
struct control {
	u64 epoch;   /* which slot of a row's maxima is written now */
	u64 lru_gen; /* the multi-generational LRU is on: nr_taken, not nr_scanned, is what pgscan counts */
	u64 detail;  /* bit 1 << record_kind: stream these */
	u64 quota;   /* records that may still be streamed */
};

/* Written by the kernel side. */
enum stat {
	STAT_LOST,				    /* by record kind: the ring buffer was full */
	STAT_SUPPRESSED = STAT_LOST + RECORD_KINDS, /* by record kind: over the rate limit */
	STAT_UNMATCHED_BEGIN = STAT_SUPPRESSED + RECORD_KINDS,
	STAT_UNMATCHED_END,
	STAT_TABLE_FULL_ROWS,	 /* no row left for a thread: counted in an overflow row */
	STAT_TABLE_FULL_THREADS, /* no room to remember a thread: its reclaim has no time */
	STAT_BY_ONE,		 /* of two programs one missed something, the other did not */
	STATS = 16,
};

struct stats {
	u64 count[STATS];
};

#endif
