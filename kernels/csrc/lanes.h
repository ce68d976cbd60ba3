/* Vectors of one kind of processor: LANES floats, under the same names for AVX-512 and AVX2.
 *
 * Included once for each kind, after ``LANES`` is defined as 16 or 8, and ``VNNI`` as whether
 * there are products of int8; ``fn(name)`` gives a function the name of its kind. */

#undef fn
#undef vfloat
#undef vint
#undef vload
#undef vstore
#undef vset
#undef vzero
#undef vfma
#undef vmul
#undef vsum
#undef vload_half
#undef vload_brain
#undef to_half
#undef to_brain
#undef vput
#undef hput
#undef iload
#undef istore
#undef iset
#undef idot
#undef ireach
#undef ifloor

#if LANES == 16

#define fn(name) name##_avx512
#define vfloat __m512
#define vint __m512i
#define vload(p) _mm512_loadu_ps(p)
#define vstore(p, v) _mm512_storeu_ps(p, v)
#define vset(x) _mm512_set1_ps(x)
#define vzero() _mm512_setzero_ps()
#define vfma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vmul(a, b) _mm512_mul_ps(a, b)
#define vsum(v) _mm512_reduce_add_ps(v)
#define vload_half(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define to_half(v) _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)
#define to_brain(v) fn(brain_of)(v)
/* Stores, ``past`` the cache or not. */
#define vput(p, v, past) ((past) ? _mm512_stream_ps(p, v) : _mm512_storeu_ps(p, v))
#define hput(p, v, past) \
    ((past) ? _mm256_stream_si256((__m256i *)(p), v) : _mm256_storeu_si256((__m256i *)(p), v))
#define vload_brain(p)                                                  \
    _mm512_castsi512_ps(_mm512_slli_epi32(                              \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define iload(p) _mm512_loadu_si512(p)
#define istore(p, v) _mm512_storeu_si512(p, v)
#define iset(x) _mm512_set1_epi32(x)
/* Four products of unsigned and signed bytes, added to each 32-bit sum; never saturates. As
 * assembly, because compilers copy the sums of the intrinsic about and run out of registers. */
#define idot(sum, bytes, words) \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(words))
/* A bit for each lane of ``a`` that is at least ``b``. */
#define ireach(a, b) ((uint32_t)_mm512_cmpge_epi32_mask(a, b))
#define ifloor(v) _mm512_cvtps_epi32(_mm512_floor_ps(_mm512_min_ps(v, _mm512_set1_ps(2e9f))))

/* float32 to bfloat16, to nearest even; NaN stays NaN. */
static inline __m256i fn(brain_of)(__m512 v) {
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    bits = _mm512_mask_mov_epi32(bits, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q),
                                 _mm512_set1_epi32(0x7FC00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

#else

#if VNNI
#define fn(name) name##_vnni
#else
#define fn(name) name##_avx2
#endif
#define vfloat __m256
#define vint __m256i
#define vload(p) _mm256_loadu_ps(p)
#define vstore(p, v) _mm256_storeu_ps(p, v)
#define vset(x) _mm256_set1_ps(x)
#define vzero() _mm256_setzero_ps()
#define vfma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vmul(a, b) _mm256_mul_ps(a, b)
#define vsum(v) fn(sum_of)(v)
#define vload_half(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define to_half(v) _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)
#define to_brain(v) fn(brain_of)(v)
#define vput(p, v, past) ((past) ? _mm256_stream_ps(p, v) : _mm256_storeu_ps(p, v))
#define hput(p, v, past) \
    ((past) ? _mm_stream_si128((__m128i *)(p), v) : _mm_storeu_si128((__m128i *)(p), v))
#define vload_brain(p)                                                  \
    _mm256_castsi256_ps(_mm256_slli_epi32(                              \
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define iload(p) _mm256_loadu_si256((const __m256i *)(p))
#define istore(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define iset(x) _mm256_set1_epi32(x)
#if !VNNI
/* Two neighbouring products are added in 16 bits, which saturate: words are at most 63. */
#define idot(sum, bytes, words)           \
    (sum) = _mm256_add_epi32((sum),       \
        _mm256_madd_epi16(_mm256_maddubs_epi16((bytes), (words)), _mm256_set1_epi16(1)))
#elif HAS_VEX
#define idot(sum, bytes, words) \
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(bytes), "x"(words))
#else
#define idot(sum, bytes, words) ((void)(words)) /* never run: c4c_runs */
#endif
#define ireach(a, b) \
    (0xFFu & ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))))
#define ifloor(v) _mm256_cvtps_epi32(_mm256_floor_ps(_mm256_min_ps(v, _mm256_set1_ps(2e9f))))

static inline float fn(sum_of)(__m256 v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline __m128i fn(brain_of)(__m256 v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    bits = _mm256_castps_si256(_mm256_blendv_ps(
        _mm256_castsi256_ps(bits), _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000)), nan));
    bits = _mm256_srli_epi32(bits, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

#endif

/* Rows of the gallery and frames come as float32, float16 or bfloat16 (``kind`` 0, 1, 2).
 * Past the last whole vector, single values are widened here. */
static inline float fn(value)(const void *row, int kind, int64_t d) {
    if (kind == 0) return ((const float *)row)[d];
    uint16_t bits = ((const uint16_t *)row)[d];
    if (kind == 1) return _cvtsh_ss(bits);
    union { uint32_t bits; float value; } wide = {.bits = (uint32_t)bits << 16};
    return wide.value;
}

static inline __attribute__((always_inline)) vfloat fn(values)(
    const void *row, const int kind, int64_t d) {
    if (kind == 0) return vload((const float *)row + d);
    if (kind == 1) return vload_half((const uint16_t *)row + d);
    return vload_brain((const uint16_t *)row + d);
}
