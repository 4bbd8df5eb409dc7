// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Kernels for the tests of the launch itself.

extern "C" __global__ void scale(float *values, int count, float factor, const float *offsets) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = values[i] * factor + offsets[i];
}

// Where a thread stands, as one number.
extern "C" __global__ void places(unsigned *out, unsigned char base) {
  unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = base + block * 1000 + thread;
}
