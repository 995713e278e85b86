/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pairs: two programs on one event, so that what one misses the other counts.
 *
 * A program that can be preempted does not run for other tasks on its CPU until it resumes (its recursion guard,
 * bpf_prog.active). The second program of the pair then does. Where both run, the one that comes first counts the
 * event, and the other only finds the note it left. Whichever order the kernel calls them in, and whichever is skipped,
 * an event counts once.
 */
#ifndef MMWATCH_PAIRS_H
#define MMWATCH_PAIRS_H

#include "maps.h"

#define PAIR_FIRST 1
#define PAIR_SECOND 2

#if defined(PAIR_shrink_node) || defined(PAIR_write_folio)
/*
 * Whether the other program of the pair has counted this event. note holds the program that has counted an event the
 * other has not seen yet, 0 for none; if that is the same one again, the other missed the event before.
 */
static __always_inline bool paired(u32 *note, u32 program)
{
	if (*note == PAIR_FIRST + PAIR_SECOND - program) {
		*note = 0;
		return true;
	}
	if (*note)
		count(STAT_PAIR_SEEN_ONCE);
	*note = program;
	return false;
}

/* The reclaim is over: what the other program has not seen by now, it missed. */
static __always_inline void settle_pair(u32 *note)
{
	if (*note)
		count(STAT_PAIR_SEEN_ONCE);
	*note = 0;
}
#endif

#endif
