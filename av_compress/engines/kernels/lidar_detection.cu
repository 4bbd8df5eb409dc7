// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Clouds into voxels and their features: what tasks/lidar_detection/compiled.py does on the host,
// with the same bits.
//
// Which thread comes first shows nowhere in what is left: places of the hash table and of a bucket
// are taken in any order, and points are then told apart by their index. All arithmetic is
// float32, in the host's order; the compiler is told not to fuse products and sums.

typedef unsigned long long Word;

constexpr int kBlock = 256;  // Threads of a block, where they add up among themselves.
constexpr Word kEmpty = ~0ull;
constexpr int kNone = -1;
constexpr int kLast = 0x7fffffff;

// Counters of a cloud.
constexpr int kVoxels = 0, kOutside = 1, kSurplus = 2, kHomeless = 3;

static __device__ inline int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Right below the upper bound float32 may round up to a cell that is none.
static __device__ inline int cell_along(float value, float lower, float size, int cells) {
  const long long cell = (long long)floorf((value - lower) / size);
  return cell < cells ? (int)cell : cells - 1;
}

// ------------------------------------------------------------------ cells of points

extern "C" __global__ void clear_table(Word *keys, int *firsts, int *counts, int places) {
  const int place = thread();
  if (place >= places) return;
  keys[place] = kEmpty;
  firsts[place] = kLast;
  counts[place] = 0;
}

// For each point its cell's place in the table (none: outside), and how many came there before it;
// for each cell its first point, and how many there are. Where the table has a place for every
// cell, factor 1 and shift 0 leave each at its own.
extern "C" __global__ void assign_cells(const float *points, int count, int width, float lower_x,
                                        float lower_y, float lower_z, float upper_x, float upper_y,
                                        float upper_z, float size_x, float size_y, float size_z,
                                        int layers, int rows, int columns, Word factor, int shift,
                                        int table, Word *keys, int *firsts, int *counts,
                                        int *places, int *arrivals) {
  const int i = thread();
  if (i >= count) return;
  const float *point = points + (long long)i * width;
  const float x = point[0], y = point[1], z = point[2];
  // Written so that NaN is outside, too.
  if (!(lower_x <= x && x < upper_x && lower_y <= y && y < upper_y && lower_z <= z &&
        z < upper_z)) {
    places[i] = kNone;
    return;
  }
  const Word layer = cell_along(z, lower_z, size_z, layers);
  const Word row = cell_along(y, lower_y, size_y, rows);
  const Word cell = (layer * rows + row) * columns + cell_along(x, lower_x, size_x, columns);
  int place = (int)((cell * factor) >> shift) & (table - 1);
  while (true) {
    const Word found = atomicCAS(&keys[place], kEmpty, cell);
    if (found == kEmpty || found == cell) break;
    place = (place + 1) & (table - 1);
  }
  atomicMin(&firsts[place], i);
  places[i] = place;
  arrivals[i] = atomicAdd(&counts[place], 1);
}

// ------------------------------------------------------------------ voxels, by their first points

// The sum of the values of the threads before this one, and that of all.
static __device__ inline Word sum_before(Word value, Word *total) {
  __shared__ Word sums[kBlock];
  const int self = threadIdx.x;
  sums[self] = value;
  __syncthreads();
  for (int step = 1; step < kBlock; step *= 2) {
    const Word other = self >= step ? sums[self - step] : 0;
    __syncthreads();
    sums[self] += other;
    __syncthreads();
  }
  *total = sums[kBlock - 1];
  const Word before = sums[self] - value;
  __syncthreads();  // The next call writes there.
  return before;
}

// Voxels and their points, in one word: both are added up at once.
static __device__ inline Word pair(int voxels, int points) {
  return (Word)voxels << 32 | (unsigned)points;
}

// For each point, how many points before it in its block are the first of their cell, and how many
// points those cells have; for each block, how many in all.
extern "C" __global__ void count_firsts(const int *places, const int *firsts, const int *counts,
                                        int count, Word *before, Word *blocks) {
  const int i = thread(), place = i < count ? places[i] : kNone;
  const bool first = place != kNone && firsts[place] == i;
  Word total;
  const Word sum = sum_before(first ? pair(1, counts[place]) : 0, &total);
  if (i < count) before[i] = sum;
  if (threadIdx.x == 0) blocks[blockIdx.x] = total;
}

// The same for blocks: one block's work. All counters are set.
extern "C" __global__ void count_blocks(Word *blocks, int many, int count, int room,
                                        int *counters) {
  Word carried = 0;
  for (int start = 0; start < many; start += kBlock) {
    const int i = start + threadIdx.x;
    Word total;
    const Word sum = sum_before(i < many ? blocks[i] : 0, &total);
    if (i < many) blocks[i] = carried + sum;
    carried += total;
  }
  if (threadIdx.x != 0) return;
  const int cells = (int)(carried >> 32), inside = (int)(carried & 0xffffffffu);
  counters[kVoxels] = cells < room ? cells : room;
  counters[kOutside] = count - inside;
  counters[kSurplus] = 0;
  counters[kHomeless] = 0;
}

struct Voxel {
  int number;  // Its place in the order of first points.
  int start;   // Of its bucket.
};

static __device__ inline Voxel voxel_of(int first, const Word *before, const Word *blocks) {
  const Word sum = before[first] + blocks[first / kBlock];
  return {(int)(sum >> 32), (int)(sum & 0xffffffffu)};
}

// Points into their voxels' buckets, in any order. The first of each voxel writes what is known of
// it; that of the first voxel without room knows how many points have none.
extern "C" __global__ void fill_buckets(const int *places, const int *arrivals, const Word *keys,
                                        const int *firsts, const int *counts, const Word *before,
                                        const Word *blocks, int count, int depth, int room,
                                        int rows, int columns, int *bucket, int *kept, int *cells,
                                        int *counters) {
  const int i = thread();
  if (i >= count || places[i] == kNone) return;
  const int place = places[i], first = firsts[place];
  const Voxel voxel = voxel_of(first, before, blocks);
  if (voxel.number == room && i == first)
    counters[kHomeless] = count - counters[kOutside] - voxel.start;
  if (voxel.number >= room) return;
  bucket[voxel.start + arrivals[i]] = i;
  if (i != first) return;
  const int many = counts[place];
  kept[voxel.number] = many < depth ? many : depth;
  if (many > depth) atomicAdd(&counters[kSurplus], many - depth);
  const Word line = keys[place] / columns;
  int *cell = cells + (long long)voxel.number * 3;
  cell[0] = (int)(line / rows);
  cell[1] = (int)(line % rows);
  cell[2] = (int)(keys[place] % columns);
}

// A point's place in its voxel is the number of earlier points there; of interest is it while
// there is room. Several entries are looked at together, so that their loads overlap.
extern "C" __global__ void order_points(const int *places, const int *firsts, const int *counts,
                                        const Word *before, const Word *blocks, const int *bucket,
                                        int count, int depth, int room, int *order) {
  constexpr int kTogether = 8;
  const int i = thread();
  if (i >= count || places[i] == kNone) return;
  const int place = places[i], many = counts[place];
  const Voxel voxel = voxel_of(firsts[place], before, blocks);
  if (voxel.number >= room) return;
  const int *entries = bucket + voxel.start;
  int earlier = 0;
  for (int start = 0; start < many && earlier < depth; start += kTogether)
    for (int step = 0; step < kTogether; step++)
      if (start + step < many) earlier += entries[start + step] < i;
  if (earlier < depth) order[(long long)voxel.number * depth + earlier] = i;
}

// ------------------------------------------------------------------ features

// A block describes a voxel after the other. `codes` are places in features.CHANNELS.
extern "C" __global__ void encode_voxels(const float *points, int width, const int *order,
                                         const int *kept, const int *cells, const int *counters,
                                         const int *codes, int channels, int depth, float lower_x,
                                         float lower_y, float lower_z, float size_x, float size_y,
                                         float size_z, float *out) {
  __shared__ float origins[6];  // The mean of the points, the centre of the cell.
  const int axis = threadIdx.x;
  for (int number = blockIdx.x; number < counters[kVoxels]; number += gridDim.x) {
    const int many = kept[number];
    const int *rows = order + (long long)number * depth;
    if (axis < 3) {
      const float lower = axis == 0 ? lower_x : axis == 1 ? lower_y : lower_z;
      const float size = axis == 0 ? size_x : axis == 1 ? size_y : size_z;
      float total = 0.0f;
      for (int slot = 0; slot < many; slot++) total += points[(long long)rows[slot] * width + axis];
      origins[axis] = total / (float)many;
      const float place = (float)cells[(long long)number * 3 + 2 - axis];
      origins[3 + axis] = (place + 0.5f) * size + lower;
    }
    __syncthreads();
    float *features = out + (long long)number * depth * channels;
    for (int i = threadIdx.x; i < depth * channels; i += blockDim.x) {
      const int slot = i / channels, code = codes[i % channels];
      float value = 0.0f;
      if (slot < many) {
        const float *point = points + (long long)rows[slot] * width;
        if (code < 6)
          value = point[code];
        else if (code < 12)
          value = point[code % 3] - origins[code - 6];
        else
          value = sqrtf(point[0] * point[0] + point[1] * point[1] + point[2] * point[2]);
      }
      features[i] = value;
    }
    __syncthreads();  // The next voxel's origins are written over these.
  }
}

// Rows beyond the last voxel, `length` values of a row of features each: zeros.
extern "C" __global__ void zero_rows(const int *counters, int room, int length, int *cells,
                                     float *out) {
  const long long step = (long long)gridDim.x * blockDim.x, used = counters[kVoxels];
  for (long long i = used * length + thread(); i < (long long)room * length; i += step)
    out[i] = 0.0f;
  for (long long i = used * 3 + thread(); i < (long long)room * 3; i += step) cells[i] = 0;
}

// The same: the last voxel again; zeros where there is none.
extern "C" __global__ void repeat_last(const int *counters, int room, int length, int *cells,
                                       float *out) {
  const long long step = (long long)gridDim.x * blockDim.x, used = counters[kVoxels];
  const float *features = out + (used - 1) * length;
  const int *cell = cells + (used - 1) * 3;
  for (long long i = used * length + thread(); i < (long long)room * length; i += step)
    out[i] = used ? features[i % length] : 0.0f;
  for (long long i = used * 3 + thread(); i < (long long)room * 3; i += step)
    cells[i] = used ? cell[i % 3] : 0;
}

// ------------------------------------------------------------------ cells of voxels

template <typename Index>
static __device__ inline void number_cells(const int *cells, int count, int rows, int columns,
                                           Index *out) {
  const int i = thread();
  if (i >= count) return;
  const int *cell = cells + (long long)i * 3;
  out[i] = ((Index)cell[0] * rows + cell[1]) * columns + cell[2];
}

extern "C" __global__ void number_cells_int32(const int *cells, int count, int rows, int columns,
                                              int *out) {
  number_cells(cells, count, rows, columns, out);
}

extern "C" __global__ void number_cells_int64(const int *cells, int count, int rows, int columns,
                                              long long *out) {
  number_cells(cells, count, rows, columns, out);
}

// A row of features [v, channels] to its pillar's place on the canvas [channels, rows, columns].
template <typename Value>
static __device__ inline void scatter(const Value *features, const int *cells,
                                      const int *counters, int channels, int rows, int columns,
                                      Value *canvas) {
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = thread(); i < (long long)counters[kVoxels] * channels; i += step) {
    const int *cell = cells + i / channels * 3;
    const long long line = i % channels * rows + cell[1];
    canvas[line * columns + cell[2]] = features[i];
  }
}

extern "C" __global__ void scatter_float32(const float *features, const int *cells,
                                           const int *counters, int channels, int rows,
                                           int columns, float *canvas) {
  scatter(features, cells, counters, channels, rows, columns, canvas);
}

// Values are moved as they are: their bits are all that counts.
extern "C" __global__ void scatter_float16(const unsigned short *features, const int *cells,
                                           const int *counters, int channels, int rows,
                                           int columns, unsigned short *canvas) {
  scatter(features, cells, counters, channels, rows, columns, canvas);
}
