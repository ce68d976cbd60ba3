/* Exact search of one width: products of int8 rule out all rows but a few, these are scored.
 *
 * What the bounds mean stands in index.py. Codes lie in groups of GROUP rows, four bytes of a
 * row beside the same four of the next: one instruction takes four bytes of LANES rows. */

#undef QUERIES
#if LANES == 16
#define QUERIES 12 /* 24 sums, 2 vectors of codes and a word: 27 of 32 registers */
#elif VNNI
#define QUERIES 6 /* 12 sums, 2 vectors of codes and a word: 15 of 16 registers */
#else
#define QUERIES 5 /* 10 sums, 2 vectors of codes, a word, ones and a product: 15 of 16 */
#endif

/* float32 inner product of a query and a row of the gallery. */
static inline __attribute__((always_inline)) float fn(inner)(
    const float *query, const void *row, const int kind, int64_t dim) {
    vfloat sum[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t d = 0;
    for (; d + 4 * LANES <= dim; d += 4 * LANES)
        for (int i = 0; i < 4; i++)
            sum[i] = vfma(vload(query + d + i * LANES), fn(values)(row, kind, d + i * LANES), sum[i]);
    for (; d + LANES <= dim; d += LANES)
        sum[0] = vfma(vload(query + d), fn(values)(row, kind, d), sum[0]);
    float total = (vsum(sum[0]) + vsum(sum[1])) + (vsum(sum[2]) + vsum(sum[3]));
    for (; d < dim; d++) total += query[d] * fn(value)(row, kind, d);
    return total;
}

static float fn(score)(const struct search *s, int64_t query, int64_t row) {
    const float *q = s->queries + query * s->in.dim;
    const char *r = (const char *)s->in.rows + row * s->in.stride;
    if (s->in.kind == 0) return fn(inner)(q, r, 0, s->in.dim);
    return s->in.kind == 1 ? fn(inner)(q, r, 1, s->in.dim) : fn(inner)(q, r, 2, s->in.dim);
}

/* The smallest product of a row of this group with each query that its bound lets pass; where
 * bounds are beyond float32, so are the scores. */
static void fn(limits)(const struct search *s, int64_t group, int32_t *limit) {
    float length = s->in.group_length[group], error = s->in.group_error[group];
    vfloat scale = vset(1 / s->in.scale[group]);
    for (int64_t q = 0; q < s->padded; q += LANES) {
        vfloat gap = vfma(vload(s->remainder + q), vset(-length), vload(s->gap + q));
        gap = vfma(vload(s->norm + q), vset(-error), gap);
        istore(limit + q, ifloor(vmul(vmul(gap, scale), vload(s->per_step + q))));
    }
}

/* Look at the rows of a group whose product with a query passed. */
static void fn(look)(
    struct search *s, int64_t query, int64_t group, int first, uint32_t passed, const int32_t *dots) {
    float factor = s->step[query] * s->in.scale[group];
    for (; passed; passed &= passed - 1) {
        int lane = __builtin_ctz(passed);
        int64_t row = group * GROUP + first + lane;
        float reach = s->remainder[query] * s->in.length[row] + s->norm[query] * s->in.error[row];
        int there = s->in.error[row] >= 0;
        if (!there || !(factor * (float)dots[lane] + reach >= s->gap[query])) continue;
        s->scored++;
        offer(s, query, row, fn(score)(s, query, row));
    }
}

/* Products of ``count`` queries with 2 * LANES rows of a group. */
static inline __attribute__((always_inline)) void fn(tile)(
    struct search *s, int64_t query, const int count, int64_t group, int first,
    const int32_t *limit) {
    const uint8_t *codes = s->in.codes + (group * s->in.depth * GROUP + first) * 4;
    const int8_t *words = s->words + query * s->in.depth * 4;
    int64_t apart = s->in.depth * 4;
    vint one[QUERIES], two[QUERIES];
#pragma GCC unroll 12
    for (int i = 0; i < count; i++) one[i] = two[i] = iset(s->shift[query + i]);
    for (int64_t k = 0; k < s->in.depth; k++) {
        vint a = iload(codes + k * 4 * GROUP), b = iload(codes + k * 4 * GROUP + 4 * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < count; i++) {
            int32_t four;
            memcpy(&four, words + i * apart + 4 * k, 4);
            vint word = iset(four);
            idot(one[i], a, word);
            idot(two[i], b, word);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < count; i++) {
        vint least = iset(limit[query + i]);
        uint32_t passed = ireach(one[i], least) | ireach(two[i], least) << LANES;
        if (__builtin_expect(passed != 0, 0)) {
            int32_t dots[2 * LANES];
            istore(dots, one[i]);
            istore(dots + LANES, two[i]);
            fn(look)(s, query + i, group, first, passed, dots);
        }
    }
}

/* Groups ``first`` to ``last - 1`` for all queries. Stops early, after a whole group, when more
 * than ``s->most`` pairs beyond a share of those seen had to be scored; returns where it stopped. */
static int64_t fn(search)(struct search *s, int64_t first, int64_t last) {
    int32_t limit[MAX_QUERIES + 16];
    const int64_t bytes = s->in.depth * 4 * GROUP;
    for (int64_t group = first; group < last; group++) {
        fn(limits)(s, group, limit);
        const char *next = (const char *)s->in.codes + (group + 1) * bytes;
        const int64_t each = group + 1 < last ? bytes / (s->count / QUERIES + 1) : 0;
        for (int half = 0; half < GROUP; half += 2 * LANES) {
            int64_t q = 0;
            for (; q + QUERIES <= s->count; q += QUERIES) {
                for (int64_t line = 0; !half && line < each; line += 64)
                    _mm_prefetch(next + q / QUERIES * each + line, _MM_HINT_T1);
                fn(tile)(s, q, QUERIES, group, half, limit);
            }
            for (; q + 4 <= s->count; q += 4) fn(tile)(s, q, 4, group, half, limit);
            for (; q < s->count; q++) fn(tile)(s, q, 1, group, half, limit);
        }
        s->seen += s->count * GROUP;
        if (s->scored > s->most + s->seen / SHARE) return group + 1;
    }
    return last;
}
