/* SPDX-License-Identifier: GPL-2.0-only */
#include "/virtual/include/bcc/bpf.h" /* the copy BCC carries inside itself */
