// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// From a camera's bytes to the network's input in one pass: a thread for each of its pixels.
//
// Colours and resizing are those of OpenCV's functions for 8-bit images, in the same whole numbers.
// What depends on floating point (weights of the resizing, normalised values) comes from the host
// in tables, so that the result has the same bits as that of the task's own preprocess.

typedef unsigned char Byte;

struct Color {
  int blue, green, red;
};

// Two neighbours along an axis and their weights, which sum to 2048; see camera.py.
struct alignas(16) Tap {
  int first, second, first_weight, second_weight;
};

// What the readers below are made of; the meaning of a, b and c is theirs.
struct Image {
  const Byte *data;
  int height, width, step, a, b, c, bytes;
};

__device__ __forceinline__ const Byte *row_of(const Image &image, int y) {
  return image.data + static_cast<size_t>(y) * image.step;
}

__device__ __forceinline__ int clamped(int value, int low, int high) {
  return value < low ? low : value > high ? high : value;
}

// BT.601 of limited range in fixed point of 20 bits, as OpenCV's color_yuv has it.
__device__ __forceinline__ Color from_yuv(int y, int u, int v) {
  const int luma = (y > 16 ? y - 16 : 0) * 1220542 + (1 << 19);
  u -= 128;
  v -= 128;
  return {clamped((luma + 2116026 * u) >> 20, 0, 255),
          clamped((luma - 409993 * u - 852492 * v) >> 20, 0, 255),
          clamped((luma + 1673527 * v) >> 20, 0, 255)};
}

// Whole pixels of `bytes` bytes; a, b, c: which of them is blue, green, red.
struct Pixels {
  static __device__ __forceinline__ Color at(const Image &image, int y, int x) {
    const Byte *pixel = row_of(image, y) + static_cast<size_t>(x) * image.bytes;
    return {pixel[image.a], pixel[image.b], pixel[image.c]};
  }
};

// Two pixels in four bytes; a: the first luma among them, b: U, c: V.
struct Yuv422 {
  static __device__ __forceinline__ Color at(const Image &image, int y, int x) {
    const Byte *pair = row_of(image, y) + (x / 2) * 4;
    return from_yuv(pair[x % 2 * 2 + image.a], pair[image.b], pair[image.c]);
  }
};

// A plane of luma, and below it one of U and V for each square of four.
struct Nv12 {
  static __device__ __forceinline__ Color at(const Image &image, int y, int x) {
    const Byte *pair = row_of(image, image.height + y / 2) + x / 2 * 2;
    return from_yuv(row_of(image, y)[x], pair[0], pair[1]);
  }
};

// A mosaic, interpolated from the nearest neighbours of each colour; a, b: row and column of the
// first red. The outermost pixels are those beside them, as with OpenCV.
struct Bayer {
  static __device__ __forceinline__ Color at(const Image &image, int y, int x) {
    y = clamped(y, 1, image.height - 2);
    x = clamped(x, 1, image.width - 2);
    const Byte *here = row_of(image, y) + x, *above = here - image.step, *below = here + image.step;
    const int across = here[-1] + here[1], along = above[0] + below[0];
    const bool red_row = y % 2 == image.a, red_column = x % 2 == image.b;
    if (red_row != red_column) {
      const int beside = (across + 1) >> 1, over = (along + 1) >> 1;
      return red_row ? Color{over, here[0], beside} : Color{beside, here[0], over};
    }
    const int green = (across + along + 2) >> 2;
    const int other = (above[-1] + above[1] + below[-1] + below[1] + 2) >> 2;
    return red_row ? Color{other, green, here[0]} : Color{here[0], green, other};
  }
};

// Weights of 11 bits; of the sum of a row, OpenCV drops 4 bits, of its product with a weight 16.
__device__ __forceinline__ int blended(int a, int b, int c, int d, const Tap &column,
                                       const Tap &row) {
  const int upper = a * column.first_weight + b * column.second_weight;
  const int lower = c * column.first_weight + d * column.second_weight;
  return (((row.first_weight * (upper >> 4)) >> 16) + ((row.second_weight * (lower >> 4)) >> 16) +
          2) >> 2;
}

template <typename Reader>
__device__ __forceinline__ Color sampled(const Image &image, const Tap &column, const Tap &row,
                                         bool nearest) {
  const Color a = Reader::at(image, row.first, column.first);
  if (nearest) return a;
  const Color b = Reader::at(image, row.first, column.second);
  const Color c = Reader::at(image, row.second, column.first);
  const Color d = Reader::at(image, row.second, column.second);
  return {blended(a.blue, b.blue, c.blue, d.blue, column, row),
          blended(a.green, b.green, c.green, d.green, column, row),
          blended(a.red, b.red, c.red, d.red, column, row)};
}

__device__ __forceinline__ Color sampled(const Image &image, const Tap &column, const Tap &row,
                                         bool nearest, int kind) {
  switch (kind) {
    case 0: return sampled<Pixels>(image, column, row, nearest);
    case 1: return sampled<Yuv422>(image, column, row, nearest);
    case 2: return sampled<Nv12>(image, column, row, nearest);
    default: return sampled<Bayer>(image, column, row, nearest);
  }
}

// What the input has for each value of a channel, and behind these what it has as padding.
#define VALUES 257
#define PADDING 256

// frame: taps of the input's columns, of its rows, then the image's bytes.
// values: elements [3, VALUES] of the input's type.
// input: elements [places, 3, input_height, input_width], or channels last.
// left, top, width, height: where the image lies in the input.
extern "C" __global__ void __launch_bounds__(256) prepare_camera(
    const Byte *__restrict__ frame, const Byte *__restrict__ values, Byte *__restrict__ input,
    int place, int input_width, int input_height, int element_bytes, int channels_last,
    int red_first, int nearest, int left, int top, int width, int height, int image_height,
    int image_width, int step, int kind, int a, int b, int c, int bytes) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= input_width || y >= input_height) return;
  const Tap *columns = reinterpret_cast<const Tap *>(frame), *rows = columns + input_width;
  const int column = x - left, row = y - top;
  int pixel[3] = {PADDING, PADDING, PADDING};
  if (column >= 0 && column < width && row >= 0 && row < height) {
    const Byte *data = reinterpret_cast<const Byte *>(rows + input_height);
    const Image image = {data, image_height, image_width, step, a, b, c, bytes};
    const Color color = sampled(image, columns[column], rows[row], nearest, kind);
    pixel[0] = red_first ? color.red : color.blue;
    pixel[1] = color.green;
    pixel[2] = red_first ? color.blue : color.red;
  }
  const size_t area = static_cast<size_t>(input_width) * input_height;
  const size_t inside = static_cast<size_t>(y) * input_width + x;
  for (int channel = 0; channel < 3; channel++) {
    const size_t to = place * 3 * area + (channels_last ? inside * 3 + channel
                                                        : channel * area + inside);
    const int from = channel * VALUES + pixel[channel];
    switch (element_bytes) {
      case 1: input[to] = values[from]; break;
      case 2:
        reinterpret_cast<unsigned short *>(input)[to] =
            reinterpret_cast<const unsigned short *>(values)[from];
        break;
      default:
        reinterpret_cast<unsigned *>(input)[to] = reinterpret_cast<const unsigned *>(values)[from];
    }
  }
}
