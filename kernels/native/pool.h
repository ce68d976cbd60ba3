/* Masked mean pooling of one width: each frame is read from memory once.
 *
 * The second look at a frame (to scale it) finds it in the first-level cache. */

/* sum += row / |row|; a row of norm zero counts as nothing. */
static inline __attribute__((always_inline)) void fn(add_unit)(
    float *sum, const void *row, const int kind, int64_t dim) {
    int64_t whole = dim / (2 * LANES) * (2 * LANES), d;
    vfloat one = vzero(), two = vzero();
    for (d = 0; d < whole; d += 2 * LANES) {
        vfloat a = fn(values)(row, kind, d), b = fn(values)(row, kind, d + LANES);
        one = vfma(a, a, one);
        two = vfma(b, b, two);
    }
    float square = vsum(one) + vsum(two);
    for (; d < dim; d++) square += fn(value)(row, kind, d) * fn(value)(row, kind, d);
    float scale = square > 0 ? 1 / sqrtf(square) : 0;
    vfloat by = vset(scale);
    for (d = 0; d < whole; d += LANES)
        vstore(sum + d, vfma(fn(values)(row, kind, d), by, vload(sum + d)));
    for (; d < dim; d++) sum[d] += scale * fn(value)(row, kind, d);
}

static inline uint16_t fn(narrow)(float x, int kind) {
    if (kind == 1) return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
    union { float value; uint32_t bits; } wide = {.value = x};
    if (x != x) return 0x7FC0;
    return (uint16_t)((wide.bits + 0x7FFF + ((wide.bits >> 16) & 1)) >> 16);
}

/* out = sum / |sum|, in the type of the frames. */
static void fn(put_unit)(void *out, const float *sum, int kind, int64_t dim) {
    int64_t whole = dim / LANES * LANES, d;
    vfloat one = vzero();
    for (d = 0; d < whole; d += LANES) one = vfma(vload(sum + d), vload(sum + d), one);
    float square = vsum(one);
    for (; d < dim; d++) square += sum[d] * sum[d];
    float scale = square > 0 ? 1 / sqrtf(square) : 0;
    for (d = 0; d < whole && kind < 2; d += LANES) {
        vfloat x = vmul(vload(sum + d), vset(scale));
        if (kind == 0) vstore((float *)out + d, x);
        else vstore_half((uint16_t *)out + d, x);
    }
    for (d = kind < 2 ? d : 0; d < dim; d++) {
        if (kind == 0) ((float *)out)[d] = scale * sum[d];
        else ((uint16_t *)out)[d] = fn(narrow)(scale * sum[d], kind);
    }
}

/* Clips ``first`` to ``last - 1``: the frames of clip n are ``counts[n]`` rows from ``starts[n]``,
 * ``stride`` bytes apart. ``sums`` [N, dim] are kept for the backward if there are any. */
static void fn(pool)(const struct pooling *p, int64_t first, int64_t last) {
    float own[MAX_DIM];
    for (int64_t n = first; n < last; n++) {
        float *sum = p->sums ? p->sums + n * p->dim : own;
        memset(sum, 0, p->dim * sizeof(float));
        const char *row = (const char *)p->frames + p->starts[n] * p->stride;
        for (int64_t t = 0; t < p->counts[n]; t++, row += p->stride) {
            if (p->kind == 0) fn(add_unit)(sum, row, 0, p->dim);
            else if (p->kind == 1) fn(add_unit)(sum, row, 1, p->dim);
            else fn(add_unit)(sum, row, 2, p->dim);
        }
        fn(put_unit)((char *)p->pooled + n * p->dim * (p->kind ? 2 : 4), sum, p->kind, p->dim);
    }
}
