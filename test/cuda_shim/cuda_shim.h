// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// A host shim for CUDA kernels: the kernel's source is compiled as C++, and its body is driven over
// the grid, thread after thread. The stub of the driver loads the result as a module.
#ifndef AV_COMPRESS_CUDA_SHIM_H
#define AV_COMPRESS_CUDA_SHIM_H

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
template <typename T>
static inline T atomicAdd(T *address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
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
  // The last first: a kernel may count on no order.
  for (unsigned b = grid[0] * grid[1] * grid[2]; b-- > 0;)
    for (unsigned t = block[0] * block[1] * block[2]; t-- > 0;) {
      blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
      threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
      std::apply(kernel, values);
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
