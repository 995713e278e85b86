/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface between the BPF programs and user space, declared once: C expands these lists, Python reads them
 * (mmwatch/abi.py). No byte offsets are written down: Python uses those that BCC reports.
 *
 * Needs the fixed-width types (u32, u64, s32) and nothing else. Members have fixed widths, the widest first, so that no
 * compiler adds padding. A name ends in its unit if it has one.
 */
#ifndef MMWATCH_ABI_H
#define MMWATCH_ABI_H

/* clang-format off */

#define COMM_BYTES 16 /* TASK_COMM_LEN, include/linux/sched.h */
#define NODE_UNKNOWN (-1)
#define PRIORITY_UNKNOWN 255
#define PRIORITIES 13 /* 0 … DEF_PRIORITY (12), include/linux/mmzone.h */
#define ORDERS 11     /* 0 … MAX_PAGE_ORDER (10), include/linux/mmzone.h */
#define SHRINKERS 256 /* a kernel with all modules has about a hundred functions that scan */

/*
 * Histogram of stall times: four buckets to the octave, bucket 0 below 256 ns, the last one from 824 s. A bucket's
 * upper bound is at most 1.25 times its lower bound, so its geometric middle is within 12 % of everything in it.
 */
#define STALL_SHIFT_MIN 8
#define STALL_BUCKETS 128

/* Slots of a maximum: BPF programs write one while user space reads the other (struct control, epoch). */
#define EPOCHS 2

/* Arrays indexed in the kernel have a power of two of slots, because every verifier accepts a mask as a bound. */
#define SLOTS(n) ((n) <= 2 ? 2 : (n) <= 4 ? 4 : (n) <= 8 ? 8 : (n) <= 16 ? 16 : (n) <= 32 ? 32 : (n) <= 64 ? 64 : 128)

#define ENUMERATOR(name, help) name,

/* X(enumerator, help) */
#define PATH_LIST(X) \
	X(PATH_OTHER, "any other reclaim, or reclaim that was under way when mmwatch started") \
	X(PATH_DIRECT, "an allocation found too little free memory, so the task reclaims: kswapd was too slow") \
	X(PATH_MEMCG, "a memory cgroup is at its limit or above memory.high, and its task has to reclaim") \
	X(PATH_SOFTLIMIT, "inside direct reclaim or kswapd: a cgroup v1 above its soft limit is reclaimed first") \
	X(PATH_NODE, "zone_reclaim_mode: the task reclaims from its own node before it allocates on another") \
	X(PATH_KSWAPD, "in the background, until a node is back at its high watermark") \
	X(PATH_PROACTIVE, "requested by a user or an agent: memory.reclaim, or reclaim of a node")

enum reclaim_path { PATH_LIST(ENUMERATOR) PATHS };

#define ROW_STATE_LIST(X) \
	X(ROW_FREE, "not in use") \
	X(ROW_LIVE, "in use by a thread") \
	X(ROW_EXITED, "its thread has exited: user space folds the row and hands its index back")

enum row_state { ROW_STATE_LIST(ENUMERATOR) ROW_STATES };

#define RECORD_KIND_LIST(X) \
	X(RECORD_RECLAIM, "a reclaim, from begin to end") \
	X(RECORD_BATCH, "a batch of inactive pages") \
	X(RECORD_PASS, "a pass: one call of shrink_node")

enum record_kind { RECORD_KIND_LIST(ENUMERATOR) RECORD_KINDS };

/* In the order of enum vmscan_throttle_state, include/linux/mmzone.h (5.16 and later). */
#define THROTTLE_LIST(X) \
	X(THROTTLE_WRITEBACK, "too many pages of the node are under writeback") \
	X(THROTTLE_ISOLATED, "other reclaimers have isolated too many pages") \
	X(THROTTLE_NOPROGRESS, "the whole priority ladder freed nothing") \
	X(THROTTLE_CONGESTED, "the pages are dirty, and their device is congested")

enum throttle_reason { THROTTLE_LIST(ENUMERATOR) THROTTLE_REASONS };

/* lost and suppressed have one statistic for each record kind, in the order of enum record_kind. */
#define STAT_LIST(X) \
	X(STAT_LOST_RECLAIM, "single reclaims dropped: the ring buffer was full") \
	X(STAT_LOST_BATCH, "single batches dropped: the ring buffer was full") \
	X(STAT_LOST_PASS, "single passes dropped: the ring buffer was full") \
	X(STAT_SUPPRESSED_RECLAIM, "single reclaims not streamed: over the rate limit") \
	X(STAT_SUPPRESSED_BATCH, "single batches not streamed: over the rate limit") \
	X(STAT_SUPPRESSED_PASS, "single passes not streamed: over the rate limit") \
	X(STAT_UNMATCHED_BEGIN, "reclaims whose end was not seen") \
	X(STAT_UNMATCHED_END, "reclaims whose begin was not seen") \
	X(STAT_TABLE_FULL_ROWS, "events for which no row was free: counted in an overflow row") \
	X(STAT_TABLE_FULL_THREADS, "events whose thread found no slot: its reclaim has no time") \
	X(STAT_PAIR_SEEN_ONCE, "events that one program of a pair counted and the other missed") \
	X(STAT_UNDER_WAY, "reclaims that were under way when mmwatch started: only their ends were seen") \
	X(STAT_TABLE_FULL_SHRINKERS, "calls of shrinkers that found no free entry: counted in the one without a name")

enum stat { STAT_LIST(ENUMERATOR) STATS };

/* Written by the kernel side. */
struct stats { u64 count[SLOTS(STATS)]; };

/*
 * One row per thread × path × node × node the thread ran on × target. Only the thread itself writes its row, so plain
 * additions are exact. The first PATHS rows are the overflow rows, one per path: threads that found no free row share them and
 * add atomically.
 *
 * X(type, name, array, fold, unit, need, help)
 *
 * fold  SUM, HISTOGRAM  counters: they only grow
 *       MAX             the largest since the last reading, with a slot for each of two epochs
 *       LATEST          the last value written
 *       KEY             identifies the row
 *       PRIVATE         bookkeeping between the two sides
 * need  the need whose probe counts the member (NEEDS in mmwatch/kernel/events.py); brackets: begin and end of any path;
 *       none: not a measure
 */
#define ROW_LIST(X) \
	X(u64, events, , PRIVATE, count, none, \
	  "number of updates: written last, so that a reader who sees it grow also sees the other changes") \
	X(u64, start_ns, , KEY, ns, none, \
	  "when the row was made, CLOCK_MONOTONIC; distinguishes a thread from a later one with the same ID") \
	X(u64, cgroup_id, , KEY, id, none, "memory cgroup of the thread; 0 if unknown") \
	X(u64, target_id, , KEY, id, targets, \
	  "memory cgroup that is reclaimed, whose limit binds; 0: reclaim for the whole host or a node, or unknown") \
	X(u64, open_since_ns, , PRIVATE, ns, none, \
	  "when the reclaim under way began or resumed, CLOCK_MONOTONIC; 0 if there is none") \
	X(u64, open_began_ns, , PRIVATE, ns, none, \
	  "when the reclaim under way began, CLOCK_MONOTONIC; valid while open_since_ns is not 0") \
	X(u64, open_runtime_ns, , PRIVATE, ns, none, \
	  "CPU time of the thread at that moment: sum_exec_runtime of its sched_entity") \
	X(u64, high_since_ns, , PRIVATE, ns, none, \
	  "when the sleep above memory.high that is under way began, CLOCK_MONOTONIC; 0 if there is none") \
	X(u64, pending_pages, , PRIVATE, pages, none, \
	  "pages scanned by a batch that is under way: not yet in any row, because its node is not known yet") \
	X(u64, reclaims, , SUM, count, brackets, "reclaims that ended") \
	X(u64, reclaims_futile, , SUM, count, brackets, "reclaims that freed nothing") \
	X(u64, asked_pages, , SUM, pages, brackets, \
	  "pages the callers needed; unknown for kswapd, which aims at a watermark") \
	X(u64, reported_pages, , SUM, pages, brackets, \
	  "pages freed, as reported at the end of the reclaim: LRU pages and slab") \
	X(u64, scanned_file_pages, , SUM, pages, scans, "page cache pages scanned, as pgscan_file counts them") \
	X(u64, scanned_anon_pages, , SUM, pages, scans, "anonymous pages scanned, as pgscan_anon counts them") \
	X(u64, reclaimed_file_pages, , SUM, pages, batches, "page cache pages reclaimed, as pgsteal_file counts them") \
	X(u64, reclaimed_anon_pages, , SUM, pages, batches, "anonymous pages reclaimed, as pgsteal_anon counts them") \
	X(u64, stall_ns, , SUM, ns, brackets, "time in reclaim, including the reclaim under way") \
	X(u64, cpu_ns, , SUM, ns, cpu, "CPU time in reclaim; the rest of the time in reclaim it slept or waited for a CPU") \
	X(u64, batches, , SUM, count, batches, "batches of inactive pages") \
	X(u64, dirty_pages, , SUM, pages, batches, "pages found dirty") \
	X(u64, writeback_pages, , SUM, pages, batches, "pages found under writeback") \
	X(u64, immediate_pages, , SUM, pages, batches, \
	  "pages found under writeback for the second time: reclaim outruns the device") \
	X(u64, activated_pages, , SUM, pages, batches, "pages put back on the active list") \
	X(u64, referenced_pages, , SUM, pages, batches, "pages kept because they were referenced") \
	X(u64, unmap_failed_pages, , SUM, pages, batches, "pages that could not be unmapped") \
	X(u64, active_batches, , SUM, count, active, "batches of active pages") \
	X(u64, active_taken_pages, , SUM, pages, active, "active pages scanned") \
	X(u64, deactivated_pages, , SUM, pages, active, "active pages moved to the inactive list") \
	X(u64, written_pages, , SUM, pages, writes, "pages that reclaim itself wrote to swap or file") \
	X(u64, shrinker_calls, , SUM, count, shrinkers, "calls of slab shrinkers") \
	X(u64, shrinker_ns, , SUM, ns, shrinkers, "time in slab shrinkers") \
	X(u64, shrinker_objects, , SUM, count, shrinkers, "objects freed by slab shrinkers") \
	X(u64, high_sleep_ns, , SUM, ns, high, \
	  "time asleep above memory.high, outside of reclaim, including the sleep under way") \
	X(u64, kswapd_wakeups, , SUM, count, wakeups, "times this task woke kswapd") \
	X(u64, passes, , SUM, count, passes, \
	  "calls of shrink_node, each a rung of the priority ladder; counted when the reclaim ends") \
	X(u64, passes_futile, , SUM, count, passes, "passes that freed nothing") \
	X(u64, pass_ns, , SUM, ns, passes, "time in passes: each from its begin to the next pass or the end of the reclaim") \
	X(u64, pass_reclaimed_pages, , SUM, pages, passes, "pages freed by the passes") \
	X(u64, throttled, [SLOTS(THROTTLE_REASONS)], HISTOGRAM, count, throttling, \
	  "sleeps in reclaim, by reason: 0 writeback, 1 isolated, 2 noprogress, 3 congested") \
	X(u64, throttled_ns, [SLOTS(THROTTLE_REASONS)], HISTOGRAM, ns, throttling, \
	  "time asleep in reclaim, by reason likewise") \
	X(u64, stall_max_ns, [EPOCHS], MAX, ns, brackets, "the longest reclaim") \
	X(u64, reclaimed_max_pages, [EPOCHS], MAX, pages, brackets, "the most pages one reclaim freed") \
	X(u32, priority_histogram, [SLOTS(PRIORITIES)], HISTOGRAM, count, batches, "batches at each scan priority") \
	X(u32, pass_histogram, [SLOTS(PRIORITIES)], HISTOGRAM, count, passes, "passes at each scan priority") \
	X(u32, order_histogram, [SLOTS(ORDERS)], HISTOGRAM, count, brackets, "reclaims by allocation order") \
	X(u32, stall_histogram, [SLOTS(STALL_BUCKETS)], HISTOGRAM, count, brackets, \
	  "reclaims by duration, four buckets to the octave") \
	X(u32, gfp_flags, , LATEST, flags, brackets, "gfp flags of the latest reclaim") \
	X(u32, state, , PRIVATE, id, none, "enum row_state") \
	X(u32, next, , PRIVATE, id, none, "index of the thread's next row; 0 for none") \
	X(u32, tgid, , KEY, id, none, \
	  "process (thread group) ID; 0 if unknown, or in a row shared because the table was full") \
	X(u32, tid, , KEY, id, none, "thread ID; 0 likewise") \
	X(u32, path, , KEY, id, none, "enum reclaim_path") \
	X(s32, node, , KEY, id, none, \
	  "NUMA node the pages came from; if nothing was scanned, the node the task ran on") \
	X(s32, cpu_node, , KEY, id, none, "NUMA node the task ran on") \
	X(char, comm, [COMM_BYTES], KEY, text, none, "name of the task")

#define ROW_MEMBER(type, name, array, fold, unit, need, help) type name array;
struct row { ROW_LIST(ROW_MEMBER) };

/*
 * One reclaim, pass or batch in the ring buffer. All kinds have the same size, so that a drain is one array view.
 *
 * X(type, name, array, unit, help)
 */
#define RECORD_LIST(X) \
	X(u64, time_ns, , ns, "time of its end, CLOCK_MONOTONIC, nanoseconds") \
	X(u64, duration_ns, , ns, "from begin to end, nanoseconds") \
	X(u64, cgroup_id, , id, "memory cgroup of the task; 0 if unknown") \
	X(u64, asked_pages, , pages, "pages needed; unknown (0) if the path asks for no number") \
	X(u64, scanned_pages, , pages, "pages scanned") \
	X(u64, reclaimed_pages, , pages, "pages reclaimed") \
	X(u32, kind, , id, "enum record_kind") \
	X(u32, cpu, , id, "CPU it ended on") \
	X(u32, tgid, , id, "process (thread group) ID; 0 if unknown") \
	X(u32, tid, , id, "thread ID; 0 if unknown") \
	X(u32, path, , id, "enum reclaim_path") \
	X(s32, node, , id, "NUMA node the pages came from") \
	X(u32, priority, , number, "lowest scan priority reached; unknown if nothing was scanned") \
	X(u32, order, , number, "allocation order: 2^order contiguous pages") \
	X(u32, gfp_flags, , flags, "gfp flags of the allocation") \
	X(u32, file, , number, "of a batch: 1 page cache, 0 anonymous memory") \
	X(char, comm, [COMM_BYTES], text, "name of the task")

#define RECORD_MEMBER(type, name, array, unit, help) type name array;
struct record { RECORD_LIST(RECORD_MEMBER) };

/*
 * What the slab shrinkers with one function did: the calls that the rows count as shrinker_calls. The first entry is for
 * those that found no free one. Any number of threads add to an entry at once. X as in RECORD_LIST.
 */
#define SHRINKER_LIST(X) \
	X(u64, function, , id, "address of its scan_objects (include/linux/shrinker.h); 0: not known") \
	X(u64, calls, , count, "calls") \
	X(u64, objects, , count, "objects freed") \
	X(u64, shrinker_ns, , ns, "time in the calls")

struct shrinker_work { SHRINKER_LIST(RECORD_MEMBER) };

/* Written by user space, except that the BPF programs count quota down. X as in RECORD_LIST. */
#define CONTROL_LIST(X) \
	X(u64, epoch, , number, "modulo EPOCHS: the slot of a row's maxima that BPF programs write now") \
	X(u64, lru_gen, , number, "1: the multi-generational LRU is on, where pgscan counts nr_taken, not nr_scanned") \
	X(u64, detail, , flags, "1 << enum record_kind: the kinds to stream") \
	X(u64, quota, , count, "records that may still be streamed")

struct control { CONTROL_LIST(RECORD_MEMBER) };

/* clang-format on */

#endif
