// Matrix products of the sizes that small networks have, for the CPU. operators.py says which and when.
//
// A product is C[r][c] = sum over d of A[r][d] * B[d][c]. A and C may have any strides; B's rows are contiguous and a
// multiple of a vector long. All of C's tile stays in registers while d runs.

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr long VECTOR = 64, ROWS = 12;
#elif defined(__AVX__)
constexpr long VECTOR = 32, ROWS = 6;
#elif defined(__aarch64__)
constexpr long VECTOR = 16, ROWS = 12;
#else
constexpr long VECTOR = 16, ROWS = 6;
#endif
constexpr long PART = 48, LINE = 16;
// Bytes of a vector; rows of a tile (ROWS x 2 sums, 2 vectors of B and a number of A fill the registers); rows that one
// thread takes at a time; side of a square that is packed at once.

template <typename S> struct Lanes {
    typedef S type __attribute__((vector_size(VECTOR), aligned(sizeof(S)), may_alias));
    static constexpr long count = VECTOR / sizeof(S);
};

// Where the number [r][d] of A, or the row r of C, is.
struct Strides { long row, depth; };

template <int R, int C, typename S>
inline void tile(const S *a, Strides at, const S *b, long b_row, const S *bias, S *out, long out_row, long depth, long columns) {
    using V = typename Lanes<S>::type;
    constexpr long lanes = Lanes<S>::count;
    V sums[R][C] = {};
    if (bias)
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) sums[r][c] = *(const V *)(bias + c * lanes);
    for (long d = 0; d < depth; ++d) {
        V right[C];
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) right[c] = *(const V *)(b + d * b_row + c * lanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const S left = a[r * at.row + d * at.depth];
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) sums[r][c] += left * right[c];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        if (columns == C * lanes)
            for (int c = 0; c < C; ++c) *(V *)(out + r * out_row + c * lanes) = sums[r][c];
        else
            std::memcpy(out + r * out_row, sums[r], columns * sizeof(S));
    }
}

template <int R, int C, typename S>
inline void tile_of(long rows, const S *a, Strides at, const S *b, long b_row, const S *bias, S *out, long out_row, long depth,
                    long columns) {
    if constexpr (R > 0) {
        if (rows == R) tile<R, C, S>(a, at, b, b_row, bias, out, out_row, depth, columns);
        else tile_of<R - 1, C, S>(rows, a, at, b, b_row, bias, out, out_row, depth, columns);
    }
}

// C = A B, plus bias in every row if there is one. `columns` numbers of every row of C are written; bias and the rows of B
// hold at least as many, filled up to whole vectors.
template <typename S>
void product(const S *a, Strides at, const S *b, long b_row, S *out, long out_row, long rows, long depth, long columns,
             const S *bias = nullptr) {
    constexpr long lanes = Lanes<S>::count;
    // Tiles of even height: none is left with so few rows that it waits for its own sums.
    const long tiles = (rows + ROWS - 1) / ROWS;
    for (long c = 0; c < columns;) {
        const bool two = columns - c > lanes;
        const long width = std::min(columns - c, two ? 2 * lanes : lanes);
        for (long t = 0; t < tiles; ++t) {
            const long first = rows * t / tiles, count = rows * (t + 1) / tiles - first;
            const S *left = a + first * at.row;
            S *to = out + first * out_row + c;
            const S *added = bias ? bias + c : nullptr;
            if (two) tile_of<ROWS, 2, S>(count, left, at, b + c, b_row, added, to, out_row, depth, width);
            else tile_of<ROWS, 1, S>(count, left, at, b + c, b_row, added, to, out_row, depth, width);
        }
        c += width;
    }
}

template <typename S> long whole_vectors(long columns) {
    return (columns + Lanes<S>::count - 1) / Lanes<S>::count * Lanes<S>::count;
}

// B `(depth, columns)` of any strides as contiguous rows of whole vectors.
template <typename S> void pack(const S *b, Strides at, S *packed, long depth, long columns) {
    const long row = whole_vectors<S>(columns);
    for (long d = 0; d < depth; d += LINE)  // squares, so that what is read across stays in the cache
        for (long c = 0; c < columns; c += LINE)
            for (long j = c; j < std::min(c + LINE, columns); ++j)
                for (long i = d; i < std::min(d + LINE, depth); ++i) packed[i * row + j] = b[i * at.row + j * at.depth];
    for (long d = 0; d < depth; ++d)
        for (long c = columns; c < row; ++c) packed[d * row + c] = 0;
}

// rows (n, m, k), weights (m, o, k) of any strides -> out (n, m, o). A part of the rows stays in the cache for all m.
template <typename S>
void many(const S *rows, const S *weights, S *out, long n, long m, long k, long o, long w_m, long w_o, long w_k, long threads) {
    const bool ready = w_o == 1 && o % Lanes<S>::count == 0;
    const long row = ready ? w_k : whole_vectors<S>(o), parts = (n + PART - 1) / PART;
    const std::unique_ptr<S[]> packed(ready ? nullptr : new S[m * k * row]);
#pragma omp parallel num_threads(threads)
    {
        if (!ready) {
#pragma omp for
            for (long i = 0; i < m; ++i) pack<S>(weights + i * w_m, {w_k, w_o}, packed.get() + i * k * row, k, o);
        }
#pragma omp for collapse(2)
        for (long p = 0; p < parts; ++p)
            for (long i = 0; i < m; ++i) {
                const long first = n * p / parts, count = n * (p + 1) / parts - first;
                const S *right = ready ? weights + i * w_m : packed.get() + i * k * row;
                product<S>(rows + (first * m + i) * k, {m * k, 1}, right, row, out + (first * m + i) * o, m * o, count, k, o);
            }
    }
}

// rows (n, k), weights (o, k), bias (o) or none -> out (n, o), in parts of the rows.
template <typename S>
void thin(const S *rows, const S *weights, const S *bias, S *out, long n, long k, long o, long threads) {
    constexpr long part = 240;
    std::vector<S> packed(k * whole_vectors<S>(o)), added(bias ? whole_vectors<S>(o) : 0);
    pack<S>(weights, {1, k}, packed.data(), k, o);
    if (bias) std::copy(bias, bias + o, added.begin());
#pragma omp parallel for num_threads(threads)
    for (long first = 0; first < n; first += part)
        product<S>(rows + first * k, {k, 1}, packed.data(), whole_vectors<S>(o), out + first * o, o, std::min(part, n - first), k,
                   o, bias ? added.data() : nullptr);
}

// rows (n, k), others (n, o) -> out (k, o). Parts of the rows are summed in their order, however many threads there are.
template <typename S>
void thin_transposed(const S *rows, const S *others, S *out, long n, long k, long o, long threads) {
    const long part = std::max(512L, n / 64), parts = (n + part - 1) / part, row = whole_vectors<S>(o);
    std::vector<S> sums(parts * k * o);
#pragma omp parallel num_threads(threads)
    {
        std::vector<S> packed(row == o ? 0 : part * row);  // a vector must not reach beyond the last row
#pragma omp for
        for (long p = 0; p < parts; ++p) {
            const long first = p * part, count = std::min(part, n - first);
            const S *right = others + first * o;
            if (row != o) pack<S>(right, {o, 1}, packed.data(), count, o);
            product<S>(rows + first * k, {1, k}, row == o ? right : packed.data(), row, sums.data() + p * k * o, o, k, count, o);
        }
    }
    for (long i = 0; i < k * o; ++i) out[i] = 0;
    for (long p = 0; p < parts; ++p)
        for (long i = 0; i < k * o; ++i) out[i] += sums[p * k * o + i];
}

}  // namespace

#define PRODUCTS(S, name)                                                                                             \
    extern "C" void many_##name(const S *a, const S *b, S *c, long n, long m, long k, long o, long x, long y, long z, \
                                long t) {                                                                             \
        many<S>(a, b, c, n, m, k, o, x, y, z, t);                                                                     \
    }                                                                                                                 \
    extern "C" void thin_##name(const S *a, const S *b, const S *d, S *c, long n, long k, long o, long t) {           \
        thin<S>(a, b, d, c, n, k, o, t);                                                                              \
    }                                                                                                                 \
    extern "C" void thin_transposed_##name(const S *a, const S *b, S *c, long n, long k, long o, long t) {            \
        thin_transposed<S>(a, b, c, n, k, o, t);                                                                      \
    }

PRODUCTS(float, float)
PRODUCTS(double, double)
