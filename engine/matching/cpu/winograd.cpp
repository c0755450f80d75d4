// The transforms of winograd.py for the CPU, channels-last, 64 bytes of channels at a time. Each has an oracle there.
// The compiler's own kernels for them take twice the time to run, and minutes to build.
//
// Sizes: batch, down and across count images and their tiles of 4x4 pixels; channels is a multiple of 64 bytes.

#include <cstring>

namespace {

template <typename S> struct Lanes {
    typedef S type __attribute__((vector_size(64), aligned(sizeof(S)), may_alias));
    static constexpr long count = 64 / sizeof(S);
};

// B^T, G and A^T of winograd.py.
constexpr double INPUT[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
constexpr double OUTPUT[4][6] = {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};
constexpr double WEIGHT[6][3] = {{1. / 4, 0, 0},           {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                 {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};

struct Input { static constexpr int rows = 6, columns = 6; static constexpr double at(int k, int i) { return INPUT[k][i]; } };
struct Output { static constexpr int rows = 4, columns = 6; static constexpr double at(int k, int i) { return OUTPUT[k][i]; } };
struct Weight { static constexpr int rows = 6, columns = 3; static constexpr double at(int k, int i) { return WEIGHT[k][i]; } };
template <typename M> struct Transposed {
    static constexpr int rows = M::columns, columns = M::rows;
    static constexpr double at(int k, int i) { return M::at(i, k); }
};

// sum over i of M[K][I..] * in[I * stride], with the zeros left out at compile time.
template <typename M, int K, int I, typename S, typename V> inline V weighted(const V *in, int stride) {
    constexpr S weight = S(M::at(K, I));
    if constexpr (I + 1 < M::columns) {
        V rest = weighted<M, K, I + 1, S, V>(in, stride);
        if constexpr (weight == 0) return rest;
        else if constexpr (weight == 1) return in[I * stride] + rest;
        else return in[I * stride] * weight + rest;
    } else {
        return in[I * stride] * weight;
    }
}

template <typename M, int K, typename S, typename V> inline void all_rows(const V *in, int in_stride, V *out, int out_stride) {
    if constexpr (K < M::rows) {
        out[K * out_stride] = weighted<M, K, 0, S, V>(in, in_stride);
        all_rows<M, K + 1, S, V>(in, in_stride, out, out_stride);
    }
}

// out = M in M^T; both are row-major squares of vectors.
template <typename M, typename S, typename V> inline void sandwich(const V *in, V *out) {
    V middle[M::rows * M::columns];
    for (int j = 0; j < M::columns; ++j) all_rows<M, 0, S, V>(in + j, M::columns, middle + j, M::columns);
    for (int k = 0; k < M::rows; ++k) all_rows<M, 0, S, V>(middle + k * M::columns, 1, out + k * M::rows, 1);
}

// body(b, t, s, c) for every tile and every 64 bytes of channels of images b.
template <typename S, typename Body>
inline void each_tile(long b, long t, long across, long channels, const Body &body) {
    for (long s = 0; s < across; ++s)
        for (long c = 0; c < channels; c += Lanes<S>::count) body(b, t, s, c);
}

template <typename S, typename Body>
inline void each_tile_in_parallel(long batch, long down, long across, long channels, long threads, const Body &body) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (long b = 0; b < batch; ++b)
        for (long t = 0; t < down; ++t) each_tile<S>(b, t, across, channels, body);
}

template <typename S>
void input(const S *images, S *tiles, long batch, long down, long across, long channels, long threads) {
    using V = typename Lanes<S>::type;
    const long height = 4 * down, width = 4 * across;
    each_tile_in_parallel<S>(batch, down, across, channels, threads, [=](long b, long t, long s, long c) {
        S *to = tiles + ((b * down + t) * across + s) * 36 * channels + c;
        V in[36], out[36];
        for (int i = 0; i < 6; ++i)
            for (int j = 0; j < 6; ++j) {
                const long y = 4 * t + i - 1, x = 4 * s + j - 1;
                const bool inside = y >= 0 && y < height && x >= 0 && x < width;
                in[6 * i + j] = inside ? *(const V *)(images + ((b * height + y) * width + x) * channels + c) : V{};
            }
        sandwich<Input, S, V>(in, out);
        for (int p = 0; p < 36; ++p) *(V *)(to + p * channels) = out[p];
    });
}

template <typename S>
void input_adjoint(const S *tiles, S *images, long batch, long down, long across, long channels, long threads) {
    using V = typename Lanes<S>::type;
    const long height = 4 * down, width = 4 * across;
    const auto add = [=](long b, long t, long s, long c) {
        const S *from = tiles + ((b * down + t) * across + s) * 36 * channels + c;
        V in[36], out[36];
        for (int p = 0; p < 36; ++p) in[p] = *(const V *)(from + p * channels);
        sandwich<Transposed<Input>, S, V>(in, out);
        for (int i = 0; i < 6; ++i)
            for (int j = 0; j < 6; ++j) {
                const long y = 4 * t + i - 1, x = 4 * s + j - 1;
                if (y >= 0 && y < height && x >= 0 && x < width)
                    *(V *)(images + ((b * height + y) * width + x) * channels + c) += out[6 * i + j];
            }
    };
    // One image is one thread's: tiles overlap, and their sum must not depend on who came first.
#pragma omp parallel for num_threads(threads)
    for (long b = 0; b < batch; ++b) {
        S *image = images + b * height * width * channels;
        for (long p = 0; p < height * width * channels; ++p) image[p] = 0;
        for (long t = 0; t < down; ++t) each_tile<S>(b, t, across, channels, add);
    }
}

template <typename S>
void output(const S *tiles, S *images, long batch, long down, long across, long channels, long threads) {
    using V = typename Lanes<S>::type;
    each_tile_in_parallel<S>(batch, down, across, channels, threads, [=](long b, long t, long s, long c) {
        const S *from = tiles + ((b * down + t) * across + s) * 36 * channels + c;
        V in[36], out[16];
        for (int p = 0; p < 36; ++p) in[p] = *(const V *)(from + p * channels);
        sandwich<Output, S, V>(in, out);
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j)
                *(V *)(images + ((b * 4 * down + 4 * t + i) * 4 * across + 4 * s + j) * channels + c) = out[4 * i + j];
    });
}

template <typename S>
void output_adjoint(const S *images, S *tiles, long batch, long down, long across, long channels, long threads) {
    using V = typename Lanes<S>::type;
    each_tile_in_parallel<S>(batch, down, across, channels, threads, [=](long b, long t, long s, long c) {
        S *to = tiles + ((b * down + t) * across + s) * 36 * channels + c;
        V in[16], out[36];
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j)
                in[4 * i + j] = *(const V *)(images + ((b * 4 * down + 4 * t + i) * 4 * across + 4 * s + j) * channels + c);
        sandwich<Transposed<Output>, S, V>(in, out);
        for (int p = 0; p < 36; ++p) *(V *)(to + p * channels) = out[p];
    });
}

// Pairs of an output and an input channel side by side, as many as a vector has; what is left over, one by one.
template <typename S, typename V, long N> inline void weights_of(const S *weights, S *tiles, long pairs) {
    V in[9], out[36];
    for (int i = 0; i < 9; ++i)
        for (long l = 0; l < N; ++l) ((S *)&in[i])[l] = weights[9 * l + i];
    sandwich<Weight, S, V>(in, out);
    for (int p = 0; p < 36; ++p) std::memcpy(tiles + p * pairs, &out[p], sizeof(V));
}

template <typename S, typename V, long N> inline void weights_adjoint_of(const S *tiles, S *weights, long pairs) {
    V in[36], out[9];
    for (int p = 0; p < 36; ++p) std::memcpy(&in[p], tiles + p * pairs, sizeof(V));
    sandwich<Transposed<Weight>, S, V>(in, out);
    for (int i = 0; i < 9; ++i)
        for (long l = 0; l < N; ++l) weights[9 * l + i] = ((const S *)&out[i])[l];
}

template <typename S> void weight(const S *weights, S *tiles, long pairs, long threads) {
    constexpr long lanes = Lanes<S>::count;
    const long whole = pairs / lanes * lanes;
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < whole; n += lanes)
        weights_of<S, typename Lanes<S>::type, lanes>(weights + 9 * n, tiles + n, pairs);
    for (long n = whole; n < pairs; ++n) weights_of<S, S, 1>(weights + 9 * n, tiles + n, pairs);
}

template <typename S> void weight_adjoint(const S *tiles, S *weights, long pairs, long threads) {
    constexpr long lanes = Lanes<S>::count;
    const long whole = pairs / lanes * lanes;
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < whole; n += lanes)
        weights_adjoint_of<S, typename Lanes<S>::type, lanes>(tiles + n, weights + 9 * n, pairs);
    for (long n = whole; n < pairs; ++n) weights_adjoint_of<S, S, 1>(tiles + n, weights + 9 * n, pairs);
}

}  // namespace

#define IMAGES(name)                                                                                              \
    extern "C" void name##_float(const float *a, float *b, long n, long d, long w, long c, long t) { name(a, b, n, d, w, c, t); } \
    extern "C" void name##_double(const double *a, double *b, long n, long d, long w, long c, long t) { name(a, b, n, d, w, c, t); }
#define WEIGHTS(name)                                                                                             \
    extern "C" void name##_float(const float *a, float *b, long n, long t) { name(a, b, n, t); }                   \
    extern "C" void name##_double(const double *a, double *b, long n, long t) { name(a, b, n, t); }

IMAGES(input)
IMAGES(input_adjoint)
IMAGES(output)
IMAGES(output_adjoint)
WEIGHTS(weight)
WEIGHTS(weight_adjoint)
