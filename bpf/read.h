/* SPDX-License-Identifier: GPL-2.0-only */
/* Reading kernel memory, and index bounds that the verifier accepts. */
#ifndef MMWATCH_READ_H
#define MMWATCH_READ_H

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 read_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/* The index modulo size, a power of two. The asm keeps the compiler from dropping the mask that the verifier needs. */
static __always_inline u64 masked(u64 index, u64 size)
{
	asm volatile("" : "+r"(index));
	return index & (size - 1);
}

#endif
