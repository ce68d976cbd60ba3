/* Masked mean pooling of one width: each frame is read from memory once.
 *
 * The second look at a frame (to scale it) finds it in the first-level cache, and a few frames
 * share each look at the sum. */

#define RUN 4
#define AHEAD 8192 /* bytes */

/* One over a norm, given its square; 0 for what counts as ``nothing``. */
static inline float fn(over)(float square, float nothing) {
    return square > nothing * nothing ? 1 / sqrtf(square) : 0;
}

/* One over the norm of a row; 0 for a row that counts as ``nothing``. */
static inline __attribute__((always_inline)) float fn(inverse)(
    const void *row, float nothing, const int kind, int64_t dim) {
    const int64_t size = kind ? 2 : 4;
    int64_t d = 0;
    vfloat one = vzero(), two = vzero();
#pragma GCC unroll 4
    for (; d + 2 * LANES <= dim; d += 2 * LANES) {
        /* The processor's own prefetching does not keep up while frames are looked at twice. */
        if (d * size % 64 == 0) _mm_prefetch((const char *)row + d * size + AHEAD, _MM_HINT_T0);
        vfloat a = fn(values)(row, kind, d), b = fn(values)(row, kind, d + LANES);
        one = vfma(a, a, one);
        two = vfma(b, b, two);
    }
    float square = vsum(one) + vsum(two);
    for (; d < dim; d++) square += fn(value)(row, kind, d) * fn(value)(row, kind, d);
    return fn(over)(square, nothing);
}

/* sum += row / |row| for ``count`` rows, at most RUN (``begin``: the sum was zero); returns
 * |sum|^2. */
static inline __attribute__((always_inline)) float fn(add_units)(
    float *sum, const char *rows, const struct pooling *p, const int count, const int begin,
    const int kind) {
    const int64_t stride = p->stride, dim = p->dim;
    float scale[RUN];
    for (int i = 0; i < count; i++)
        scale[i] = fn(inverse)(rows + i * stride, p->smallest, kind, dim);
    int64_t d = 0;
    vfloat square = vzero();
#pragma GCC unroll 4
    for (; d + LANES <= dim; d += LANES) {
        vfloat x = begin ? vzero() : vload(sum + d);
        for (int i = 0; i < count; i++)
            x = vfma(fn(values)(rows + i * stride, kind, d), vset(scale[i]), x);
        vstore(sum + d, x);
        square = vfma(x, x, square);
    }
    float rest = vsum(square);
    for (; d < dim; d++) {
        float x = begin ? 0 : sum[d];
        for (int i = 0; i < count; i++) x += scale[i] * fn(value)(rows + i * stride, kind, d);
        sum[d] = x;
        rest += x * x;
    }
    return rest;
}

/* The sum of a clip's unit frames; returns |sum|^2. */
static inline __attribute__((always_inline)) float fn(add_clip)(
    float *sum, const char *rows, const struct pooling *p, int64_t count, const int kind) {
    int64_t some = count % RUN ? count % RUN : RUN;
    float square = 0;
    if (!count) memset(sum, 0, p->dim * sizeof(float));
    else if (some == 1) square = fn(add_units)(sum, rows, p, 1, 1, kind);
    else if (some == 2) square = fn(add_units)(sum, rows, p, 2, 1, kind);
    else if (some == 3) square = fn(add_units)(sum, rows, p, 3, 1, kind);
    else square = fn(add_units)(sum, rows, p, RUN, 1, kind);
    for (int64_t t = some; t < count; t += RUN)
        square = fn(add_units)(sum, rows + t * p->stride, p, RUN, 0, kind);
    return square;
}

static inline uint16_t fn(narrow)(float x, int kind) {
    if (kind == 1) return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
    union { float value; uint32_t bits; } wide = {.value = x};
    if (x != x) return 0x7FC0;
    return (uint16_t)((wide.bits + 0x7FFF + ((wide.bits >> 16) & 1)) >> 16);
}

/* out = scale * sum, in the type of the frames. ``past``: past the cache, which writes need not
 * fill with what they replace; rows must be aligned for it. */
static inline __attribute__((always_inline)) void fn(put)(
    void *out, const float *sum, float scale, const int kind, int past, int64_t dim) {
    int64_t d = 0;
#pragma GCC unroll 4
    for (; d + LANES <= dim; d += LANES) {
        vfloat x = vmul(vload(sum + d), vset(scale));
        if (kind == 0) vput((float *)out + d, x, past);
        else hput((uint16_t *)out + d, kind == 1 ? to_half(x) : to_brain(x), past);
    }
    for (; d < dim; d++) {
        if (kind == 0) ((float *)out)[d] = scale * sum[d];
        else ((uint16_t *)out)[d] = fn(narrow)(scale * sum[d], kind);
    }
}

/* Clips ``first`` to ``last - 1``: the frames of clip n are ``counts[n]`` rows from ``starts[n]``,
 * ``stride`` bytes apart. ``sums`` [N, dim] are kept for the backward if there are any. Returns
 * where it stopped: at a clip that reaches beyond the frames. */
static inline __attribute__((always_inline)) int64_t fn(pool_kind)(
    const struct pooling *p, int64_t first, int64_t last, const int kind) {
    float own[MAX_DIM];
    const int64_t size = kind ? 2 : 4, bytes = p->dim * size;
    const int past = ((uintptr_t)p->pooled | (uintptr_t)bytes) % (uintptr_t)(LANES * size) == 0;
    int64_t n = first;
    for (; n < last; n++) {
        if (p->starts[n] < 0 || p->counts[n] < 0 || p->counts[n] > p->rows - p->starts[n]) break;
        float *sum = p->sums ? p->sums + n * p->dim : own;
        const char *rows = (const char *)p->frames + p->starts[n] * p->stride;
        float square = fn(add_clip)(sum, rows, p, p->counts[n], kind), count = p->counts[n];
        float scale = fn(over)(square, p->noise * count * sqrtf(count + p->dim));
        fn(put)((char *)p->pooled + n * bytes, sum, scale, kind, past, p->dim);
    }
    _mm_sfence();
    return n;
}

static int64_t fn(pool)(const struct pooling *p, int64_t first, int64_t last) {
    if (p->kind == 0) return fn(pool_kind)(p, first, last, 0);
    if (p->kind == 1) return fn(pool_kind)(p, first, last, 1);
    return fn(pool_kind)(p, first, last, 2);
}

#undef RUN
#undef AHEAD
