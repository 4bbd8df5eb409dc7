// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// The cells of a detector's outputs that can hold a candidate, as a short list: a thread for each.
//
// The rule is that of Scoring in tasks/camera_detection/heads/cells.py, whose bounds leave room for
// the last digits of exp and pow; what is kept in vain is dropped by the host.

typedef unsigned int Word;

struct Half {
  unsigned short bits;
};

// See Part in cells.py; image_step: from an image to the next, in elements. These two structs are
// filled by survivors_table.py.
struct Part {
  int half, channels, first, group_step, cell_step, channel_step, image_step;
};

// See Block and Scoring in cells.py.
struct Block {
  int begin, cells, total, parts, width;
  int class_part, class_first, classes, objectness_part, objectness_channel, sigmoid;
  float raw_bound, score_bound, objectness_power, class_power;
  Part part[3];
};

struct Cell {
  int image, group, place;
};

__device__ __forceinline__ float widened(float value) { return value; }

// Shifted into place, the exponent is too small by 112; subnormal numbers come out right as well.
__device__ __forceinline__ float widened(Half value) {
  const float size = __int_as_float((value.bits & 0x7fff) << 13) * 5.192296858534828e33f;
  Word bits = static_cast<Word>(__float_as_int(size)) | (value.bits & 0x8000u) << 16;
  if ((value.bits & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
  return __int_as_float(static_cast<int>(bits));
}

__device__ __forceinline__ size_t start_of(const Part &part, const Cell &cell) {
  return static_cast<size_t>(cell.image) * part.image_step + part.first +
         static_cast<size_t>(cell.group) * part.group_step +
         static_cast<size_t>(cell.place) * part.cell_step;
}

__device__ __forceinline__ float value_of(const Part &part, const void *tensor, const Cell &cell,
                                          int channel) {
  const size_t at = start_of(part, cell) + static_cast<size_t>(channel) * part.channel_step;
  return part.half ? widened(static_cast<const Half *>(tensor)[at])
                   : static_cast<const float *>(tensor)[at];
}

// The highest of some channels; fmaxf passes over what is no number.
template <typename Stored>
__device__ __forceinline__ float best_of(const Stored *values, int step, int count) {
  float best = __int_as_float(static_cast<int>(0xff800000));
  for (int i = 0; i < count; ++i) best = fmaxf(best, widened(values[static_cast<size_t>(i) * step]));
  return best;
}

__device__ __forceinline__ float best_class(const Block &block, const Part &part,
                                            const void *tensor, const Cell &cell) {
  const size_t at = start_of(part, cell) + static_cast<size_t>(block.class_first) * part.channel_step;
  return part.half
             ? best_of(static_cast<const Half *>(tensor) + at, part.channel_step, block.classes)
             : best_of(static_cast<const float *>(tensor) + at, part.channel_step, block.classes);
}

__device__ __forceinline__ float activated(const Block &block, float value) {
  return block.sigmoid ? __fdiv_rn(1.0f, __fadd_rn(1.0f, expf(-value))) : value;
}

__device__ __forceinline__ float raised(float value, float power) {
  return power == 1.0f ? value : powf(fmaxf(value, 0.0f), power);
}

__device__ __forceinline__ bool survives(const Block &block, const void *const *tensors,
                                         const Cell &cell) {
  float objectness = 0.0f;
  if (block.objectness_part >= 0) {
    objectness = value_of(block.part[block.objectness_part], tensors[block.objectness_part], cell,
                          block.objectness_channel);
    // Reads no classes of most cells. Objectness that is no number has no candidate.
    if (!(objectness >= block.raw_bound)) return false;
  }
  const float best =
      best_class(block, block.part[block.class_part], tensors[block.class_part], cell);
  if (block.objectness_part < 0) return best >= block.raw_bound;
  const float score =
      __fmul_rn(raised(activated(block, objectness), block.objectness_power),
                raised(activated(block, best), block.class_power));
  return !(score < block.score_bound);
}

// How many cells of each image survive: none so far.
extern "C" __global__ void forget_survivors(Word *found, int images) {
  const int image = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (image < images) found[image] = 0;
}

// found: a count for each of `images`, then for each image the first `prefix` survivors, then for
// each image the others up to `capacity`; a survivor is its cell's index and its row. The count
// goes on where there is no more room.
extern "C" __global__ void find_survivors(const void *first, const void *second, const void *third,
                                          const Block *blocks, int which, Word *found, int images,
                                          int prefix, int capacity) {
  const Block &block = blocks[which];
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= block.total) return;
  const Cell cell = {static_cast<int>(blockIdx.y), index / block.cells, index % block.cells};
  const void *const tensors[3] = {first, second, third};
  if (!survives(block, tensors, cell)) return;
  const Word slot = atomicAdd(found + cell.image, 1u);
  if (slot >= static_cast<Word>(capacity)) return;
  const size_t early = static_cast<size_t>(cell.image) * prefix + slot;
  const size_t late = static_cast<size_t>(images) * prefix +
                      static_cast<size_t>(cell.image) * (capacity - prefix) + slot - prefix;
  Word *out = found + images + (slot < static_cast<Word>(prefix) ? early : late) * block.width;
  *out++ = static_cast<Word>(block.begin + index);
  for (int p = 0; p < block.parts; ++p)
    for (int channel = 0; channel < block.part[p].channels; ++channel)
      *out++ = static_cast<Word>(
          __float_as_int(value_of(block.part[p], tensors[p], cell, channel)));
}
