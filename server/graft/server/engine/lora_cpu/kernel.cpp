// y[row] += (x[row] A^T) B^T for the rows of every adapter in a batch (SGMV of Punica, arXiv:2310.18547).
//
// A caller describes a LoRA-wrapped module once and the batch once per step; a call per module then does all of its
// slices (q, k, v; gate, up), which share x. Work is cut by rows, so that no thread waits for another inside a call.
// Weights: A is [slots][max_rank][in]; B is stored transposed, [slots][max_rank][out] per slice, so that both
// products read memory in order; only the first rank rows of a slot count.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define GRAFT_AVX512_BF16 1
#endif

// The OpenMP runtime is the one that torch has loaded, which is GNU's or speaks its language. It is called by name, so
// that whatever compiler made this library needs no runtime of its own.
extern "C" {
int omp_get_max_threads();
int omp_get_num_threads();
int omp_get_thread_num();
void GOMP_parallel(void (*body)(void*), void* context, unsigned num_threads, unsigned flags);
}

namespace {

constexpr int kMaxRank = 512;
constexpr int kRowBlock = 16;  // rows whose low-rank products are held at once
// One more thread is woken only for at least this much work, in multiply-adds: threads sleep while they wait, and
// waking one costs as much as tens of microseconds of work.
constexpr double kWorkPerThread = 4.0e6;
// What reading an adapter's weights costs, in rows of arithmetic: memory is slower than the vector units.
constexpr double kRowsPerRead = 6.0;

struct Bf16 {
  std::uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(Bf16 value) {
  const std::uint32_t wide = static_cast<std::uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, sizeof result);
  return result;
}
inline void store(float value, float* to) { *to = value; }
inline void store(float value, Bf16* to) {
  std::uint32_t wide;
  std::memcpy(&wide, &value, sizeof wide);
  if ((wide & 0x7fffffff) > 0x7f800000) {
    to->bits = static_cast<std::uint16_t>((wide >> 16) | 0x40);
    return;
  }
  to->bits = static_cast<std::uint16_t>((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);  // to nearest, ties to even
}

}  // namespace

extern "C" {

struct GraftSlice {
  const void* a;         // [slots][max_rank][in]
  const void* b;         // [slots][max_rank][out]
  const std::int32_t* rank;  // [slots]; 0 where the adapter leaves this slice alone
  std::int32_t out;
};

struct GraftModule {
  const GraftSlice* slices;
  std::int32_t num_slices;
  std::int32_t in;
  std::int32_t max_rank;
  std::int32_t is_bf16;
};

struct GraftStep {
  const std::int32_t* rows;      // row numbers, grouped by segment
  const std::int32_t* starts;    // [num_segments + 1] into rows
  const std::int32_t* slots;     // [num_segments]
  std::int32_t num_segments;
  std::int32_t num_rows;         // of the batch, rows of the base included
};

}  // extern "C"

namespace {

// Memory that is read after what is being computed, fetched meanwhile a few lines at a time: an adapter's weights are
// many short runs, for which the processor's own prefetching starts too late.
class Ahead {
 public:
  Ahead() = default;
  template <typename E>
  Ahead(const E* weights, int rank, int width)
      : at_(reinterpret_cast<const char*>(weights)),
        end_(reinterpret_cast<const char*>(weights + static_cast<std::int64_t>(rank) * width)) {}

  // Spread the fetching over so many calls of `fetch`.
  void spread(std::int64_t calls) { lines_ = (end_ - at_) / 64 / std::max<std::int64_t>(calls, 1) + 1; }

  void fetch() {
    for (std::int64_t line = 0; line < lines_ && at_ < end_; ++line, at_ += 64) __builtin_prefetch(at_);
  }

 private:
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  std::int64_t lines_ = 0;
};

// Portable products; the compiler makes vector code of them for whatever the processor has.
template <typename E>
struct Portable {
  static void shrink(const E* const* x, int num_rows, const E* a, int rank, int in, float* h, Ahead) {
    for (int row = 0; row < num_rows; ++row) {
      for (int k = 0; k < rank; ++k) {
        const E* a_row = a + static_cast<std::int64_t>(k) * in;
        const E* x_row = x[row];
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < in; ++i) sum += to_float(x_row[i]) * to_float(a_row[i]);
        h[row * kMaxRank + k] = sum;
      }
    }
  }

  static void expand(const float* h, int num_rows, const E* b, int rank, int out, E* const* y, Ahead) {
    constexpr int kWide = 256;
    float sum[kWide];
    for (int row = 0; row < num_rows; ++row) {
      for (int begin = 0; begin < out; begin += kWide) {
        const int width = std::min(kWide, out - begin);
        std::fill(sum, sum + width, 0.0f);
        for (int k = 0; k < rank; ++k) {
          const E* b_row = b + static_cast<std::int64_t>(k) * out + begin;
          const float factor = h[row * kMaxRank + k];
#pragma omp simd
          for (int o = 0; o < width; ++o) sum[o] += factor * to_float(b_row[o]);
        }
        E* to = y[row] + begin;
        for (int o = 0; o < width; ++o) store(to_float(to[o]) + sum[o], to + o);
      }
    }
  }
};

#ifdef GRAFT_AVX512_BF16

inline __m512i load(const Bf16* from) { return _mm512_loadu_si512(from); }
inline __m512i load(const Bf16* from, __mmask32 mask) { return _mm512_maskz_loadu_epi16(mask, from); }
inline __m512 dot(__m512 sum, __m512i x, __m512i y) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
}

// The sums over each of 16 vectors, in order.
inline __m512 sums(const __m512* v) {
  __m512 lanes[4];
  for (int j = 0; j < 4; ++j) {
    const __m512 *a = v + 4 * j, *b = a + 1, *c = a + 2, *d = a + 3;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(*a, *b), _mm512_unpackhi_ps(*a, *b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(*c, *d), _mm512_unpackhi_ps(*c, *d));
    const __m512d p = _mm512_castps_pd(ab), q = _mm512_castps_pd(cd);
    lanes[j] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
  }
  const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(lanes[0], lanes[1], 0x88),
                                   _mm512_shuffle_f32x4(lanes[0], lanes[1], 0xdd));
  const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(lanes[2], lanes[3], 0x88),
                                    _mm512_shuffle_f32x4(lanes[2], lanes[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

// R rows times 16 / R ranks at once.
template <int R>
void shrink_tile(const Bf16* const* x, const Bf16* a, int first, int rank, int in, float* h, Ahead& ahead) {
  constexpr int K = 16 / R;
  const Bf16* rows[K];
  for (int k = 0; k < K; ++k) rows[k] = a + static_cast<std::int64_t>(std::min(first + k, rank - 1)) * in;
  __m512 sum[16];
  for (auto& each : sum) each = _mm512_setzero_ps();
  int i = 0;
  for (; i + 32 <= in; i += 32) {
    ahead.fetch();
    __m512i weights[K];
    for (int k = 0; k < K; ++k) weights[k] = load(rows[k] + i);
    for (int r = 0; r < R; ++r) {
      const __m512i values = load(x[r] + i);
      for (int k = 0; k < K; ++k) sum[r * K + k] = dot(sum[r * K + k], values, weights[k]);
    }
  }
  if (i < in) {
    const __mmask32 mask = (1u << (in - i)) - 1;
    for (int r = 0; r < R; ++r) {
      const __m512i values = load(x[r] + i, mask);
      for (int k = 0; k < K; ++k) sum[r * K + k] = dot(sum[r * K + k], values, load(rows[k] + i, mask));
    }
  }
  alignas(64) float result[16];
  _mm512_store_ps(result, sums(sum));
  const int valid = std::min(K, rank - first);
  for (int r = 0; r < R; ++r) std::memcpy(h + r * kMaxRank + first, result + r * K, valid * sizeof(float));
}

// R rows times 32 * N outputs at once; unless all are there (Full), `masks` cut off what lies behind the last one.
template <int R, int N, bool Full>
void expand_tile(const std::uint32_t* pairs, const Bf16* b, int rank, int out, const __mmask32* masks, Bf16* const* y,
                 int begin, Ahead& ahead) {
  const __m512i zero = _mm512_setzero_si512();
  __m512 low[R][N], high[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) low[r][n] = high[r][n] = _mm512_setzero_ps();
  for (int k = 0; k < rank; k += 2) {
    const Bf16* even = b + static_cast<std::int64_t>(k) * out + begin;
    const Bf16* odd = k + 1 < rank ? even + out : even;  // its factor is zero
    ahead.fetch();
    __m512i first[N], second[N];
    for (int n = 0; n < N; ++n) {
      const __m512i p = Full ? load(even + 32 * n) : load(even + 32 * n, masks[n]);
      const __m512i q = Full ? load(odd + 32 * n) : load(odd + 32 * n, masks[n]);
      first[n] = _mm512_unpacklo_epi16(p, q);
      second[n] = _mm512_unpackhi_epi16(p, q);
    }
    for (int r = 0; r < R; ++r) {
      const __m512i factor = _mm512_set1_epi32(static_cast<int>(pairs[r * (kMaxRank / 2) + k / 2]));
      for (int n = 0; n < N; ++n) {
        low[r][n] = dot(low[r][n], first[n], factor);
        high[r][n] = dot(high[r][n], second[n], factor);
      }
    }
  }
  // Unpacking with zero widens bf16 to float in the very order in which the sums stand; the permutation undoes it.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) {
      Bf16* to = y[r] + begin + 32 * n;
      const __m512i old = Full ? load(to) : load(to, masks[n]);
      const __m512 l = _mm512_add_ps(low[r][n], _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, old)));
      const __m512 u = _mm512_add_ps(high[r][n], _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, old)));
      const __m512i sum = _mm512_permutexvar_epi64(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(u, l)));
      if (Full)
        _mm512_storeu_si512(to, sum);
      else
        _mm512_mask_storeu_epi16(to, masks[n], sum);
    }
  }
}

// The R rows from `row` on.
template <int R>
void expand_rows(const std::uint32_t* all_pairs, const Bf16* b, int rank, int out, Bf16* const* all_y, int row,
                 Ahead& ahead) {
  constexpr int N = R >= 8 ? 1 : 4;
  const std::uint32_t* pairs = all_pairs + row * (kMaxRank / 2);
  Bf16* const* y = all_y + row;
  __mmask32 masks[N];
  int begin = 0;
  for (; begin + 32 * N <= out; begin += 32 * N) expand_tile<R, N, true>(pairs, b, rank, out, masks, y, begin, ahead);
  if (begin == out) return;
  for (int n = 0; n < N; ++n) {
    const int left = out - begin - 32 * n;
    masks[n] = left >= 32 ? 0xffffffffu : left > 0 ? (1u << left) - 1 : 0u;
  }
  expand_tile<R, N, false>(pairs, b, rank, out, masks, y, begin, ahead);
}

// Up to this many rows an adapter's weights come from memory as fast as it gives them, which long runs help; for more
// rows arithmetic counts, and tiles of many rows.
constexpr int kFewRows = 8;

struct Vector {
  static void shrink(const Bf16* const* x, int num_rows, const Bf16* a, int rank, int in, float* h, Ahead ahead) {
    const int rows = num_rows > kFewRows ? 4 : num_rows > 1 ? 2 : 1;
    ahead.spread(static_cast<std::int64_t>(num_rows / rows) * ((rank * rows + 15) / 16) * (in / 32));
    int row = 0;
    for (; num_rows > kFewRows && row + 4 <= num_rows; row += 4)
      for (int k = 0; k < rank; k += 4) shrink_tile<4>(x + row, a, k, rank, in, h + row * kMaxRank, ahead);
    for (; row + 2 <= num_rows; row += 2)
      for (int k = 0; k < rank; k += 8) shrink_tile<2>(x + row, a, k, rank, in, h + row * kMaxRank, ahead);
    for (; row < num_rows; ++row)
      for (int k = 0; k < rank; k += 16) shrink_tile<1>(x + row, a, k, rank, in, h + row * kMaxRank, ahead);
  }

  static void expand(const float* h, int num_rows, const Bf16* b, int rank, int out, Bf16* const* y, Ahead ahead) {
    std::uint32_t pairs[kRowBlock * kMaxRank / 2];
    for (int row = 0; row < num_rows; ++row) pair_up(h + row * kMaxRank, rank, pairs + row * (kMaxRank / 2));
    const int rows = num_rows > kFewRows ? 8 : num_rows > 1 ? 2 : 1;
    const int columns = rows == 8 ? 32 : 128;
    ahead.spread(static_cast<std::int64_t>(num_rows / rows) * ((out + columns - 1) / columns) * ((rank + 1) / 2));
    int row = 0;
    for (; num_rows > kFewRows && row + 8 <= num_rows; row += 8) expand_rows<8>(pairs, b, rank, out, y, row, ahead);
    for (; row + 2 <= num_rows; row += 2) expand_rows<2>(pairs, b, rank, out, y, row, ahead);
    for (; row < num_rows; ++row) expand_rows<1>(pairs, b, rank, out, y, row, ahead);
  }

 private:
  // Two neighbours in bfloat16, as the dot product takes them; a zero behind the last one.
  static void pair_up(const float* h, int rank, std::uint32_t* pairs) {
    for (int k = 0; k < rank; k += 2) {
      Bf16 even, odd{0};
      store(h[k], &even);
      if (k + 1 < rank) store(h[k + 1], &odd);
      pairs[k / 2] = even.bits | static_cast<std::uint32_t>(odd.bits) << 16;
    }
  }
};
using Bf16Products = Vector;

#else
using Bf16Products = Portable<Bf16>;
#endif

// A slot's weights in a stack of them, [slots][max_rank][width].
template <typename E>
const E* in_slot(const void* stack, const GraftModule& module, int slot, int width) {
  return static_cast<const E*>(stack) + static_cast<std::int64_t>(slot) * module.max_rank * width;
}

// A of the first slice at `index` or after it that the slot's adapter touches.
template <typename E>
Ahead a_from(const GraftModule& module, int index, int slot) {
  for (; index < module.num_slices; ++index) {
    const GraftSlice& slice = module.slices[index];
    if (slice.rank[slot] > 0)
      return Ahead(in_slot<E>(slice.a, module, slot, module.in), slice.rank[slot], module.in);
  }
  return Ahead();
}

// All slices for some rows of one adapter; after it comes `next_slot`, unless that is negative.
template <typename E, typename Products>
void add_rows(const GraftModule& module, int slot, int next_slot, const std::int32_t* rows, int num_rows, const E* x,
              std::int64_t x_stride, E* y, std::int64_t y_stride) {
  float h[kRowBlock * kMaxRank];
  const E* x_rows[kRowBlock];
  E* y_rows[kRowBlock];
  for (int begin = 0; begin < num_rows; begin += kRowBlock) {
    const int count = std::min(kRowBlock, num_rows - begin);
    for (int row = 0; row < count; ++row) {
      x_rows[row] = x + rows[begin + row] * x_stride;
      y_rows[row] = y + rows[begin + row] * y_stride;
    }
    for (int index = 0; index < module.num_slices; ++index) {
      const GraftSlice& slice = module.slices[index];
      const int rank = slice.rank[slot];
      if (rank > 0) {
        const E* a = in_slot<E>(slice.a, module, slot, module.in);
        const E* b = in_slot<E>(slice.b, module, slot, slice.out);
        const bool first_rows = begin == 0;  // later ones find the weights in the cache
        const bool last = begin + count == num_rows && index + 1 == module.num_slices;
        Products::shrink(x_rows, count, a, rank, module.in, h, first_rows ? Ahead(b, rank, slice.out) : Ahead());
        Ahead following;
        if (first_rows) following = a_from<E>(module, index + 1, slot);
        if (last && next_slot >= 0) following = a_from<E>(module, 0, next_slot);
        Products::expand(h, count, b, rank, slice.out, y_rows, following);
      }
      for (int row = 0; row < count; ++row) y_rows[row] += slice.out;
    }
  }
}

// Multiply-adds for one row of the adapter in `slot`.
double work_per_row(const GraftModule& module, int slot) {
  double work = 0.0;
  for (int index = 0; index < module.num_slices; ++index) {
    const GraftSlice& slice = module.slices[index];
    work += static_cast<double>(slice.rank[slot]) * (module.in + slice.out);
  }
  return work;
}

// The rows whose share of all work lies in [from, to).
template <typename E, typename Products>
void add_share(const GraftModule& module, const GraftStep& step, double from, double to, const E* x,
               std::int64_t x_stride, E* y, std::int64_t y_stride) {
  double done = 0.0;
  for (int segment = 0; segment < step.num_segments && done < to; ++segment) {
    const int begin = step.starts[segment], count = step.starts[segment + 1] - begin;
    const double per_row = work_per_row(module, step.slots[segment]) * (count + kRowsPerRead) / count;
    const auto cut = [&](double at) {
      if (per_row <= 0.0) return 0;
      return static_cast<int>(std::clamp((at - done) / per_row + 0.5, 0.0, static_cast<double>(count)));
    };
    const int first = cut(from), last = cut(to);
    if (last > first)
      add_rows<E, Products>(module, step.slots[segment], segment + 1 < step.num_segments ? step.slots[segment + 1] : -1,
                            step.rows + begin + first, last - first, x, x_stride, y, y_stride);
    done += per_row * count;
  }
}

template <typename E, typename Products>
void add(const GraftModule& module, const GraftStep& step, const E* x, std::int64_t x_stride, E* y,
         std::int64_t y_stride) {
  double work = 0.0;
  for (int segment = 0; segment < step.num_segments; ++segment)
    work += work_per_row(module, step.slots[segment]) *
            (step.starts[segment + 1] - step.starts[segment] + kRowsPerRead);
  const int threads = std::clamp(static_cast<int>(work / kWorkPerThread), 1, omp_get_max_threads());
  if (threads == 1) {
    add_share<E, Products>(module, step, 0.0, work * 2, x, x_stride, y, y_stride);
    return;
  }
  auto share = [&] {
    const int me = omp_get_thread_num(), all = omp_get_num_threads();
    const double from = work * me / all, to = me + 1 == all ? work * 2 : work * (me + 1) / all;
    add_share<E, Products>(module, step, from, to, x, x_stride, y, y_stride);
  };
  using Share = decltype(share);
  GOMP_parallel([](void* context) { (*static_cast<Share*>(context))(); }, &share,
                static_cast<unsigned>(threads), 0);
}

}  // namespace

extern "C" {

// Strides are in elements. Returns 0, or 1 where the batch has fewer rows than the step.
int graft_lora_add(const GraftModule* module, const GraftStep* step, std::int64_t num_rows, const void* x,
                   std::int64_t x_stride, void* y, std::int64_t y_stride) {
  if (num_rows < step->num_rows) return 1;
  if (module->is_bf16)
    add<Bf16, Bf16Products>(*module, *step, static_cast<const Bf16*>(x), x_stride, static_cast<Bf16*>(y), y_stride);
  else
    add<float, Portable<float>>(*module, *step, static_cast<const float*>(x), x_stride, static_cast<float*>(y),
                                y_stride);
  return 0;
}

// What the products are made of, for logs and reports.
const char* graft_lora_products() {
#if defined(GRAFT_AVX512_BF16)
  return "avx512-bf16";
#elif defined(__AVX512F__)
  return "avx512";
#elif defined(__AVX2__)
  return "avx2";
#else
  return "portable";
#endif
}

}  // extern "C"
