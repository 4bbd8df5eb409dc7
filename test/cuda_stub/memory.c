// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Memory: of the device, page-locked memory of the host, and copies between them.
#define _GNU_SOURCE
#include "stub.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t stub_memory(void);

// Freed memory stays known, and its addresses are not given again: its use is found out.
static Range *device_ranges, *pinned_ranges;

static size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

int stub_live_memory(int kind) {
  int live = 0;
  for (Range *range = kind ? pinned_ranges : device_ranges; range; range = range->next)
    live += !range->freed;
  return live;
}

Range *stub_device_range(uintptr_t start, size_t bytes, bool freed) {
  for (Range *range = device_ranges; range; range = range->next)
    if (range->freed == freed && start >= range->start && start < range->start + range->bytes &&
        start + bytes <= range->start + range->bytes)
      return range;
  return NULL;
}

bool stub_pinned(const void *start, size_t bytes) {
  uintptr_t address = (uintptr_t)start;
  for (Range *range = pinned_ranges; range; range = range->next)
    if (!range->freed && address >= range->start && address + bytes <= range->start + range->bytes)
      return true;
  return false;
}

static size_t used(Context *context) {
  size_t bytes = 0;
  for (Range *range = device_ranges; range; range = range->next)
    if (!range->freed && range->context == context) bytes += round_up(range->bytes, 256);
  return bytes;
}

// Pages of its own, ending where they end: a step beyond faults at once.
static CUresult map(Range *range, size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = round_up(bytes, 256);
  range->mapped = round_up(whole, page) + 2 * page;
  char *mapping = mmap(NULL, range->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  mprotect(mapping + page, range->mapped - 2 * page, PROT_READ | PROT_WRITE);
  range->mapping = mapping;
  range->bytes = bytes;
  range->start = (uintptr_t)(mapping + range->mapped - page - whole);
  memset((void *)range->start, 0xCD, whole);  // Nobody may count on zeros.
  return CUDA_SUCCESS;
}

static void unmap(Range *range) {
  range->freed = true;
  // The addresses stay taken, so that a use of them is a use of freed memory.
  madvise(range->mapping, range->mapped, MADV_DONTNEED);
  mprotect(range->mapping, range->mapped, PROT_NONE);
}

void stub_drop_memory(Context *context) {
  for (Range *range = device_ranges; range; range = range->next)
    if (!range->freed && range->context == context) unmap(range);
  for (Range *range = pinned_ranges; range; range = range->next)
    if (!range->freed && range->context == context) range->freed = true;
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
  BEGIN_IN(context) *total = stub_memory();
  size_t taken = used(context);
  *free_bytes = taken < *total ? *total - taken : 0;
  END(CUDA_SUCCESS);
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  BEGIN_IN(context) if (!bytes) END(CUDA_ERROR_INVALID_VALUE);
  if (stub_unsafe_while_capturing()) END(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (used(context) + round_up(bytes, 256) > stub_memory()) END(CUDA_ERROR_OUT_OF_MEMORY);
  Range *range = calloc(1, sizeof *range);
  range->context = context;
  CUresult failure = map(range, bytes);
  if (failure) {
    free(range);
    END(failure);
  }
  range->next = device_ranges;
  device_ranges = range;
  *address = range->start;
  END(CUDA_SUCCESS);
}

// Freeing waits for the device, as the driver's does.
CUresult cuMemFree(CUdeviceptr address) {
  BEGIN_IN(context) Range *range = stub_device_range(address, 0, false);
  if (!range || range->start != address || range->context != context)
    END(CUDA_ERROR_INVALID_VALUE);
  stub_note("implicit synchronisation");
  CUresult failure = stub_run_all(context);
  unmap(range);
  END(failure);
}

static CUresult pin(Context *context, void *start, size_t bytes, void *mapping) {
  Range *range = calloc(1, sizeof *range);
  *range = (Range){pinned_ranges, context, (uintptr_t)start, bytes, mapping, 0, false};
  pinned_ranges = range;
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **start, size_t bytes, unsigned flags) {
  (void)flags;
  BEGIN_IN(context) if (!bytes) END(CUDA_ERROR_INVALID_VALUE);
  *start = aligned_alloc(4096, round_up(bytes, 4096));
  if (!*start) END(CUDA_ERROR_OUT_OF_MEMORY);
  END(pin(context, *start, bytes, *start));
}

CUresult cuMemHostRegister(void *start, size_t bytes, unsigned flags) {
  (void)flags;
  BEGIN_IN(context) if (!bytes) END(CUDA_ERROR_INVALID_VALUE);
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)start / page;
  uintptr_t last = ((uintptr_t)start + bytes - 1) / page;
  for (Range *range = pinned_ranges; range; range = range->next)
    if (!range->freed && first <= (range->start + range->bytes - 1) / page &&
        last >= range->start / page)
      END(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  END(pin(context, start, bytes, NULL));
}

static CUresult unpin(Context *context, void *start, bool allocated) {
  for (Range *range = pinned_ranges; range; range = range->next)
    if (!range->freed && range->start == (uintptr_t)start && !range->mapping == !allocated) {
      stub_note("implicit synchronisation");
      CUresult failure = stub_run_all(context);
      range->freed = true;
      if (allocated) free(start);
      return failure;
    }
  return allocated ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemFreeHost(void *start) { BEGIN_IN(context) END(unpin(context, start, true)); }
CUresult cuMemHostUnregister(void *start) { BEGIN_IN(context) END(unpin(context, start, false)); }

// ------------------------------------------------------------------ copies

typedef enum { TO_DEVICE, TO_HOST, IN_DEVICE } Way;

static CUresult copy(Context *context, Stream *stream, void *to, const void *from, size_t bytes,
                     Way way) {
  bool device_to = way != TO_HOST, device_from = way != TO_DEVICE;
  if (!bytes) return CUDA_SUCCESS;
  if (device_to && !stub_device_range((uintptr_t)to, bytes, false)) return CUDA_ERROR_INVALID_VALUE;
  if (device_from && !stub_device_range((uintptr_t)from, bytes, false))
    return CUDA_ERROR_INVALID_VALUE;
  Operation *operation = stub_operation(COPY);
  operation->to = to;
  operation->from = from;
  operation->bytes = bytes;
  const void *host = device_to ? from : to;
  bool pageable = way != IN_DEVICE && !stub_pinned(host, bytes) && !stream->capture;
  if (pageable) stub_note("pageable copy");
  if (pageable && way == TO_DEVICE) {
    // The driver stages such memory before it returns.
    operation->staged = malloc(bytes);
    memcpy(operation->staged, from, bytes);
  }
  CUresult failure = stub_enqueue(stream, operation);
  if (failure || !pageable || way != TO_HOST) return failure;
  // It returns only once such a copy is complete.
  stub_note("implicit synchronisation");
  (void)context;
  return stub_run(stream);
}

static CUresult copy_on(Context *context, CUstream handle, void *to, const void *from,
                        size_t bytes, Way way) {
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  return failure ? failure : copy(context, stream, to, from, bytes, way);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  BEGIN_IN(context) END(copy_on(context, stream, (void *)to, from, bytes, TO_DEVICE));
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_IN(context) END(copy_on(context, stream, to, (const void *)from, bytes, TO_HOST));
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  BEGIN_IN(context)
  END(copy_on(context, stream, (void *)to, (const void *)from, bytes, IN_DEVICE));
}

// Without a stream: after everything that blocking streams hold, and at once.
static CUresult copy_now(Context *context, void *to, const void *from, size_t bytes, Way way) {
  if (stub_unsafe_while_capturing()) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  stub_note("implicit synchronisation");
  return copy_on(context, NULL, to, from, bytes, way);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  BEGIN_IN(context) END(copy_now(context, (void *)to, from, bytes, TO_DEVICE));
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  BEGIN_IN(context) END(copy_now(context, to, (const void *)from, bytes, TO_HOST));
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  BEGIN_IN(context) END(copy_now(context, (void *)to, (const void *)from, bytes, IN_DEVICE));
}

static CUresult fill(CUdeviceptr to, unsigned value, size_t count, unsigned width,
                     CUstream handle) {
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) return failure;
  if (!stub_device_range(to, count * width, false)) return CUDA_ERROR_INVALID_VALUE;
  Operation *operation = stub_operation(FILL);
  operation->to = (void *)to;
  operation->bytes = count * width;
  operation->value = value;
  operation->width = width;
  return stub_enqueue(stream, operation);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  BEGIN_IN(context) (void)context;
  END(fill(to, value, count, 1, stream));
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  BEGIN_IN(context) (void)context;
  END(fill(to, value, count, 4, stream));
}
