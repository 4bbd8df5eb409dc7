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

// The values of a block the other way round: each thread takes what another has brought.
extern "C" __global__ void reverse(int *values) {
  __shared__ int brought[64];
  int *block = values + blockIdx.x * blockDim.x;
  brought[threadIdx.x] = block[threadIdx.x];
  __syncthreads();
  block[threadIdx.x] = brought[blockDim.x - 1 - threadIdx.x];
}

// The same without waiting for the other.
extern "C" __global__ void reverse_at_once(int *values) {
  __shared__ int brought[64];
  int *block = values + blockIdx.x * blockDim.x;
  brought[threadIdx.x] = block[threadIdx.x];
  block[threadIdx.x] = brought[blockDim.x - 1 - threadIdx.x];
}

// Threads that end early are not waited for.
extern "C" __global__ void reverse_part(int *values, unsigned count) {
  __shared__ int brought[64];
  if (threadIdx.x >= count) return;
  brought[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = brought[count - 1 - threadIdx.x];
}

// How many threads came before.
extern "C" __global__ void arrivals(int *counter, int *out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = atomicAdd(counter, 1);
}

// The same by a look and a later change, between which others may come.
extern "C" __global__ void hasty_arrivals(int *counter, int *out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int seen = atomicAdd(counter, 0);
  atomicCAS(counter, seen, seen + 1);
  out[i] = seen;
}

extern "C" __global__ void smallest(int *least, const int *values) {
  atomicMin(least, values[blockIdx.x * blockDim.x + threadIdx.x]);
}
