/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pairs: two programs on one event, so that each counts what the other misses.
 *
 * While a program is preempted, the kernel skips it for other tasks on that CPU (its recursion guard, bpf_prog.active).
 * The second program of the pair still runs. If both run, the first one counts the event and leaves a note, and the
 * other finds the note. An event counts once, in whichever order the kernel calls them and whichever it skips.
 */
#ifndef MMWATCH_PAIRS_H
#define MMWATCH_PAIRS_H

#include "maps.h"

#define PAIR_FIRST 1
#define PAIR_SECOND 2

/*
 * Whether the other program of the pair has already counted this event. note holds the program that counted an event
 * which the other has not seen yet, or 0. If it holds this program, the other one missed the previous event.
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

/* The reclaim is over: if the other program has not seen the event by now, it missed it. */
static __always_inline void settle_pair(u32 *note)
{
	if (*note)
		count(STAT_PAIR_SEEN_ONCE);
	*note = 0;
}

#endif
