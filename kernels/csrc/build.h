/* Building the index of one width: rows of the gallery to int8 codes and bounds. */

#if LANES == 16
#define put_bytes(p, v) _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(v))
#define vabs(v) _mm512_abs_ps(v)
#define vmax(a, b) _mm512_max_ps(a, b)
#define vsub(a, b) _mm512_sub_ps(a, b)
#define vround(v) _mm512_cvtps_epi32(v)
#define vfloats(v) _mm512_cvtepi32_ps(v)
#define iadd(a, b) _mm512_add_epi32(a, b)
#else
#define put_bytes(p, v)                                                                     \
    do {                                                                                    \
        __m128i two = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); \
        _mm_storel_epi64((__m128i *)(p), _mm_packus_epi16(two, two));                       \
    } while (0)
#define vabs(v) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)
#define vmax(a, b) _mm256_max_ps(a, b)
#define vsub(a, b) _mm256_sub_ps(a, b)
#define vround(v) _mm256_cvtps_epi32(v)
#define vfloats(v) _mm256_cvtepi32_ps(v)
#define iadd(a, b) _mm256_add_epi32(a, b)
#endif

/* A row less the mean, float32, padded with zeros to whole vectors; returns |row|^2. */
static float fn(centre)(const struct building *b, int64_t row, float *out) {
    const char *from = (const char *)b->rows + row * b->stride;
    int64_t d = 0, whole = b->dim / LANES * LANES;
    vfloat square = vzero();
    for (; d < whole; d += LANES) {
        vfloat x = b->kind == 0   ? fn(values)(from, 0, d)
                   : b->kind == 1 ? fn(values)(from, 1, d)
                                  : fn(values)(from, 2, d);
        square = vfma(x, x, square);
        vstore(out + d, vsub(x, vload(b->mean + d)));
    }
    float rest = vsum(square);
    for (; d < b->dim; d++) {
        float x = fn(value)(from, (int)b->kind, d);
        rest += x * x;
        out[d] = x - b->mean[d];
    }
    return rest;
}

/* Codes and bounds of one row: its four bytes for each depth stand GROUP * 4 bytes apart. */
static void fn(encode)(const struct building *b, int64_t row, const float *x, float scale, float square) {
    uint8_t *to = b->codes + (row / GROUP * b->depth * GROUP + row % GROUP) * 4;
    vfloat length = vzero(), rest = vzero(), by = vset(scale), per = vset(1 / scale);
    for (int64_t d = 0; d < b->depth * 4; d += LANES) {
        uint8_t bytes[LANES];
        vfloat value = vload(x + d);
        vint code = vround(vmul(value, per));
        vfloat near = vmul(vfloats(code), by), off = vsub(value, near);
        length = vfma(near, near, length);
        rest = vfma(off, off, rest);
        put_bytes(bytes, iadd(code, iset(128)));
        for (int64_t i = 0; i < LANES / 4 && d / 4 + i < b->depth; i++)
            memcpy(to + (d / 4 + i) * GROUP * 4, bytes + 4 * i, 4);
    }
    b->length[row] = sqrtf(vsum(length)) + b->least;
    b->error[row] = sqrtf(vsum(rest)) + (sqrtf(square) + b->mean_norm) * b->rounding + b->least;
}

/* Groups ``first`` to ``last - 1``; returns where it stopped: at a group with a row that is not
 * finite (or too large to square). ``room`` has GROUP rows of ``room_dim`` floats that were zeros. */
static int64_t fn(build)(const struct building *b, int64_t first, int64_t last) {
    for (int64_t group = first; group < last; group++) {
        float *x = b->room, square[GROUP];
        int64_t begin = group * GROUP, count = b->count - begin < GROUP ? b->count - begin : GROUP;
        vfloat largest = vzero();
        float check = 0;
        for (int64_t i = 0; i < count; i++) {
            check += square[i] = fn(centre)(b, begin + i, x + i * b->room_dim);
            for (int64_t d = 0; d < b->room_dim; d += LANES)
                largest = vmax(largest, vabs(vload(x + i * b->room_dim + d)));
        }
        if (!isfinite(check)) return group;
        float most[LANES], scale = 0;
        vstore(most, largest);
        for (int i = 0; i < LANES; i++) scale = fmaxf(scale, most[i] / 127);
        b->scale[group] = scale = scale > LEAST_SCALE ? scale : 1;
        for (int64_t i = 0; i < count; i++)
            fn(encode)(b, begin + i, x + i * b->room_dim, scale, square[i]);
        for (int64_t i = count; i < GROUP; i++) {
            b->length[begin + i] = 0;
            b->error[begin + i] = -1; /* there is no row */
        }
    }
    return last;
}

#undef put_bytes
#undef vabs
#undef vmax
#undef vsub
#undef vround
#undef vfloats
#undef iadd
