/* What c4c.kernels runs on a CPU: masked mean pooling and exact search over an int8 index.
 *
 * Plain functions for ctypes (native.py), which releases Python's lock while they run. Everything
 * is compiled for AVX-512 and for AVX2 (search with AVX-VNNI too), and ``c4c_runs`` says which of
 * them this machine runs. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VERSION 4
/* What a processor has, as native.py numbers it. */
#define AVX2 1
#define AVX_VNNI 2
#define AVX512 3
#define MAX_DIM 16384
#define MAX_QUERIES 1024
#define GROUP 32
/* Scoring a pair takes about ten times as long as ruling it out: beyond one pair in SHARE,
 * products in float32 are as fast. */
#define SHARE 4
/* Rows smaller than this are all rest: one over the scale would overflow. */
#define LEAST_SCALE 1e-30f

struct pooling {
    const void *frames;
    int64_t stride, kind, dim, rows;
    const int64_t *starts, *counts;
    void *pooled;
    float *sums;
    float smallest, noise; /* what counts as nothing: see pool.py */
};

struct building {
    const void *rows;
    int64_t stride, kind, dim, count, depth;
    const float *mean;
    float *room; /* the caller's thread's own */
    int64_t room_dim;
    uint8_t *codes;
    float *scale, *length, *error;
    float mean_norm, rounding, least;
};

/* A gallery: rows, then codes [groups, depth, GROUP, 4] and bounds. */
struct coded {
    const void *rows;
    int64_t stride, kind, dim, depth;
    const uint8_t *codes;
    const float *scale, *group_length, *group_error, *length, *error;
};

struct search {
    /* The queries: at most MAX_QUERIES, arrays of floats padded to a multiple of 16. */
    int64_t count, padded;
    const float *queries;
    const int8_t *words;
    const int32_t *shift; /* takes back the 128 that makes codes unsigned */
    const float *step, *per_step, *norm, *remainder;
    /* What is found: a heap of the k best keys of each query, the least first. */
    int64_t k;
    int64_t *keys;
    float *gap; /* [padded]: the k-th best score less the query's product with the mean */
    int64_t scored, seen, most;
    /* What is searched now: the number of its first row, and the queries' products with its
     * mean, padded too. */
    struct coded in;
    int64_t base;
    const float *centre;
};

/* A share of a task: ``what`` 0 pools, 1 builds, 2 searches; ``stop`` is how far it went. The
 * last three are for search: the gallery, and what ``struct search`` has of it. */
struct work {
    int64_t what, level;
    void *arguments;
    int64_t first, last, stop;
    const struct coded *in;
    int64_t base;
    const float *centre;
};

int64_t c4c_version(void) { return VERSION; }

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* AVX-VNNI is younger than the assemblers that come with older compilers. */
#if __GNUC__ >= 11 || defined(__clang__)
#define HAS_VEX 1
#else
#define HAS_VEX 0
#endif

/* As in select.py: descending keys are scores down, then rows up. */
static int64_t key_of(float score, int64_t row) {
    union { float value; int32_t bits; } own = {.value = score + 0.0f};
    int64_t ordered = own.bits ^ ((own.bits >> 31) & 0x7FFFFFFF);
    return (int64_t)((uint64_t)ordered << 32) | (0xFFFFFFFFLL - row);
}

static float score_in(int64_t key) {
    int32_t ordered = (int32_t)(key >> 32);
    union { int32_t bits; float value; } own = {.bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)};
    return own.value;
}

/* The gap of a query: while there are fewer than k, everything may enter. */
static void set_gap(struct search *s, int64_t query) {
    int64_t least = s->keys[query * s->k];
    s->gap[query] = least == INT64_MIN ? -INFINITY : score_in(least) - s->centre[query];
}

/* Put a scored row in its query's heap if it is among the k best so far. */
static void offer(struct search *s, int64_t query, int64_t row, float score) {
    int64_t *heap = s->keys + query * s->k, key = key_of(score, s->base + row), at = 0;
    if (key <= heap[0]) return;
    for (int64_t child; (child = 2 * at + 1) < s->k; at = child) {
        if (child + 1 < s->k && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[at] = heap[child];
    }
    heap[at] = key;
    set_gap(s, query);
}

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma,avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma,avx2")
#endif
#define LANES 16
#define VNNI 1
#include "lanes.h"
#include "pool.h"
#include "build.h"
#include "search.h"
#undef LANES
#undef VNNI
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define LANES 8
#define VNNI 1
#include "lanes.h"
#include "search.h"
#undef VNNI
#define VNNI 0
#include "lanes.h"
#include "pool.h"
#include "build.h"
#include "search.h"
#undef VNNI
#undef LANES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static unsigned cpuid(unsigned leaf, unsigned sub, int reg) {
    unsigned r[4] = {0, 0, 0, 0};
    __get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]);
    return r[reg];
}

/* Whether this machine runs task ``what`` in the way of ``level``. */
int64_t c4c_runs(int64_t what, int64_t level) {
    __builtin_cpu_init();
    int half = cpuid(1, 0, 2) >> 29 & 1; /* F16C */
    int avx2 = half && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == AVX2) return avx2;
    if (level == AVX_VNNI) return avx2 && what == 2 && HAS_VEX && (cpuid(7, 1, 0) >> 4 & 1);
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && (cpuid(7, 0, 2) >> 11 & 1); /* AVX512-VNNI */
}

static int64_t run(const struct work *w) {
    int wide = w->level == AVX512;
    if (w->what == 0) return (wide ? pool_avx512 : pool_avx2)(w->arguments, w->first, w->last);
    if (w->what == 1) return (wide ? build_avx512 : build_avx2)(w->arguments, w->first, w->last);
    struct search *s = w->arguments;
    s->in = *w->in;
    s->base = w->base;
    s->centre = w->centre;
    for (int64_t q = 0; q < s->count; q++) set_gap(s, q);
    if (wide) return search_avx512(s, w->first, w->last);
    return (w->level == AVX_VNNI ? search_vnni : search_avx2)(s, w->first, w->last);
}

#else /* other processors take the path in torch */

int64_t c4c_runs(int64_t what, int64_t level) { return 0; }
static int64_t run(const struct work *w) { return w->first; }

#endif

struct team {
    struct work *works;
    const int64_t *ends;
    int64_t chains, next;
};

static void member(void *data) {
    struct team *team = data;
    for (int64_t i; (i = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED)) < team->chains;)
        for (int64_t w = i ? team->ends[i - 1] : 0; w < team->ends[i]; w++) {
            struct work *work = &team->works[w];
            work->stop = run(work);
            if (work->stop < work->last) break;
        }
}

/* Do all works, on the threads that torch has: ``parallel`` is the GOMP_parallel that it uses.
 * Threads of our own would wait for a core while torch's spin for their next turn. Works of a
 * chain, which ends before ``ends``, are done in turn until one stops early. */
void c4c_together(void (*parallel)(void (*)(void *), void *, unsigned, unsigned),
                  int64_t threads, struct work *works, const int64_t *ends, int64_t chains) {
    struct team team = {works, ends, chains, 0};
    if (parallel && threads > 1) parallel(member, &team, (unsigned)threads, 0);
    else member(&team);
}
