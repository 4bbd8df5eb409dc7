// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// A host shim for CUDA kernels: the kernel's source is compiled as C++, and its body is driven over
// the grid, block after block. The stub of the driver loads the result as a module.
#ifndef AV_COMPRESS_CUDA_SHIM_H
#define AV_COMPRESS_CUDA_SHIM_H

#include "fibers.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#define AV_COMPRESS_ON_HOST 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shim_shared")))

// Where shared memory lies, if a kernel has any.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shim_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) char __stop_shim_shared[];

struct ShimIndex {
  unsigned x, y, z;
};
static thread_local ShimIndex threadIdx, blockIdx, blockDim, gridDim;

// Compilers of devices may join a product and a sum; kernels that must not, say so with these.
static inline float __fmul_rn(float a, float b) { volatile float product = a * b; return product; }
static inline float __fadd_rn(float a, float b) { volatile float sum = a + b; return sum; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

namespace shim {

// Arguments lie one after the other, each at a multiple of its own alignment.
template <typename T>
T take(const unsigned char *arguments, std::size_t &at) {
  at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
  T value;
  std::memcpy(&value, arguments + at, sizeof(T));
  at += sizeof(T);
  return value;
}

template <typename... T>
constexpr std::size_t argument_bytes(void (*)(T...)) {
  std::size_t at = 0;
  ((at = (at + alignof(T) - 1) / alignof(T) * alignof(T) + sizeof(T)), ...);
  return at;
}

template <typename... T>
void run(void (*kernel)(T...), const void *buffer, const unsigned *grid, const unsigned *block) {
  const auto *arguments = static_cast<const unsigned char *>(buffer);
  std::size_t at = 0;
  std::tuple<T...> values{take<T>(arguments, at)...};
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  Threads threads;
  Threads::current = &threads;
  const unsigned count = block[0] * block[1] * block[2];
  // A kernel may count on no order.
  std::vector<unsigned> blocks = threads.order(grid[0] * grid[1] * grid[2]);
  for (; !blocks.empty(); blocks.pop_back()) {
    const unsigned b = blocks.back();
    // Nobody may count on what another block has left.
    for (char *at = __start_shim_shared; at != __stop_shim_shared; at++) *at = (char)0xCD;
    blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
    threads.run(
        count, [&] { std::apply(kernel, values); },
        [&](unsigned t) {
          threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
        });
  }
}

}  // namespace shim

#define SHIM_KERNEL(name)                                                                       \
  extern "C" const std::size_t name##_argument_bytes = shim::argument_bytes(name);              \
  extern "C" void name##_on_host(const void *arguments, const unsigned *grid,                   \
                                 const unsigned *block) {                                       \
    shim::run(name, arguments, grid, block);                                                    \
  }

#endif
