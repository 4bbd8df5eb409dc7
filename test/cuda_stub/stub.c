// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Counting and failing calls, devices and contexts.
#define _GNU_SOURCE
#include "stub.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NAMES 256
#define MAX_THREADS 64

typedef struct {
  char name[64];
  long count, fail_after, fail_times;
  CUresult fail_code;
  long threads[MAX_THREADS], thread_counts[MAX_THREADS];
} Name;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Name names[MAX_NAMES];
static int name_count;

static int device_count = 1;
static int capability[MAX_DEVICES][2];
static size_t memory_bytes = 1u << 30;
static int driver_version = 13050;
Context stub_contexts[MAX_DEVICES];
bool stub_initialised;

static __thread Context *stack[MAX_DEPTH];
static __thread int depth;
static long pushed;  // On all threads together.

void stub_lock(void) { pthread_mutex_lock(&mutex); }
void stub_unlock(void) { pthread_mutex_unlock(&mutex); }
long stub_thread(void) { return syscall(SYS_gettid); }

// A call is counted under the name that the documentation has, without the version of its ABI.
static Name *find(const char *function) {
  char name[64];
  snprintf(name, sizeof name, "%s", function);
  char *suffix = strrchr(name, '_');
  if (suffix && suffix[1] == 'v' && isdigit((unsigned char)suffix[2])) *suffix = 0;
  for (int i = 0; i < name_count; i++)
    if (!strcmp(names[i].name, name)) return &names[i];
  if (name_count == MAX_NAMES) abort();
  snprintf(names[name_count].name, sizeof names[0].name, "%s", name);
  return &names[name_count++];
}

void stub_note(const char *function) {
  Name *name = find(function);
  long thread = stub_thread();
  name->count++;
  for (int i = 0; i < MAX_THREADS; i++) {
    if (name->threads[i] && name->threads[i] != thread) continue;
    name->threads[i] = thread;
    name->thread_counts[i]++;
    break;
  }
}

CUresult stub_enter(const char *function) {
  stub_lock();
  stub_note(function);
  Name *name = find(function);
  if (!name->fail_times) return CUDA_SUCCESS;
  if (name->fail_after-- > 0) return CUDA_SUCCESS;
  if (name->fail_times > 0) name->fail_times--;
  return name->fail_code;
}

CUresult stub_leave(CUresult result) {
  stub_unlock();
  return result;
}

CUresult stub_missing(const char *function) {
  CUresult failure = stub_enter(function);
  return stub_leave(failure ? failure : CUDA_ERROR_NOT_SUPPORTED);
}

Context *stub_current(void) { return depth ? stack[depth - 1] : NULL; }

CUresult stub_usable(Context **context) {
  if (!stub_initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *context = stub_current();
  if (!*context) return CUDA_ERROR_INVALID_CONTEXT;
  if (!(*context)->references) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return (*context)->lost;
}

// ------------------------------------------------------------------ what tests read and set

long stub_count(const char *function) {
  stub_lock();
  long count = find(function)->count;
  stub_unlock();
  return count;
}

// Calls made by one thread, by the identifier that the system gives it.
long stub_count_in(const char *function, long thread) {
  stub_lock();
  Name *name = find(function);
  long count = 0;
  for (int i = 0; i < MAX_THREADS; i++)
    if (name->threads[i] == thread) count = name->thread_counts[i];
  stub_unlock();
  return count;
}

// The names that were called since the counts were cleared, one a line.
void stub_called(char *text, size_t bytes) {
  stub_lock();
  text[0] = 0;
  for (int i = 0; i < name_count; i++)
    if (names[i].count) {
      size_t used = strlen(text);
      snprintf(text + used, bytes - used, "%s %ld\n", names[i].name, names[i].count);
    }
  stub_unlock();
}

// After `after` more calls, `times` calls answer `code` (-1: all later ones).
void stub_fail(const char *function, long after, int code, long times) {
  stub_lock();
  Name *name = find(function);
  name->fail_after = after;
  name->fail_code = (CUresult)code;
  name->fail_times = times;
  stub_unlock();
}

void stub_clear(void) {
  stub_lock();
  for (int i = 0; i < name_count; i++) {
    names[i].count = 0;
    memset(names[i].threads, 0, sizeof names[i].threads);
    memset(names[i].thread_counts, 0, sizeof names[i].thread_counts);
  }
  stub_unlock();
}

// Back to one device that has not been initialised; what lives on devices is dropped.
void stub_reset(void) {
  stub_lock();
  for (int i = 0; i < MAX_DEVICES; i++) {
    stub_drop_context(&stub_contexts[i]);
    stub_contexts[i] = (Context){.device = i};
    capability[i][0] = 8, capability[i][1] = 9;
  }
  memset(names, 0, sizeof names);
  name_count = 0;
  device_count = 1;
  memory_bytes = 1u << 30;
  driver_version = 13050;
  stub_initialised = false;
  stub_unlock();
}

__attribute__((constructor)) static void start(void) { stub_reset(); }

void stub_set_devices(int count) { device_count = count; }
void stub_set_driver_version(int version) { driver_version = version; }
void stub_set_memory(size_t bytes) { memory_bytes = bytes; }
void stub_set_capability(int device, int major, int minor) {
  capability[device][0] = major, capability[device][1] = minor;
}
// As after a fault on the device: the contexts are of no more use.
void stub_lose(int code) {
  stub_lock();
  for (int i = 0; i < MAX_DEVICES; i++) stub_contexts[i].lost = (CUresult)code;
  stub_unlock();
}
long stub_pushed(void) { return pushed; }
int stub_depth(void) { return depth; }
size_t stub_memory(void) { return memory_bytes; }

int stub_live(const char *what) {
  stub_lock();
  int live = -1;
  if (!strcmp(what, "device")) live = stub_live_memory(0);
  if (!strcmp(what, "pinned")) live = stub_live_memory(1);
  if (!strcmp(what, "streams")) live = stub_live_streams(0);
  if (!strcmp(what, "events")) live = stub_live_streams(1);
  if (!strcmp(what, "modules")) live = stub_live_modules();
  if (!strcmp(what, "graphs")) live = stub_live_graphs();
  if (!strcmp(what, "contexts")) {
    live = 0;
    for (int i = 0; i < MAX_DEVICES; i++) live += stub_contexts[i].references;
  }
  stub_unlock();
  return live;
}

// ------------------------------------------------------------------ devices

CUresult cuInit(unsigned flags) {
  BEGIN if (flags) END(CUDA_ERROR_INVALID_VALUE);
  if (!device_count) END(CUDA_ERROR_NO_DEVICE);
  stub_initialised = true;
  END(CUDA_SUCCESS);
}

CUresult cuDriverGetVersion(int *version) {
  BEGIN *version = driver_version;
  END(CUDA_SUCCESS);
}

static CUresult known(CUdevice device) {
  if (!stub_initialised) return CUDA_ERROR_NOT_INITIALIZED;
  return device < 0 || device >= device_count ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  BEGIN if (!stub_initialised) END(CUDA_ERROR_NOT_INITIALIZED);
  *count = device_count;
  END(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  BEGIN *device = ordinal;
  END(known(ordinal));
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  BEGIN snprintf(name, (size_t)bytes, "Stub %d", device);
  END(known(device));
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  BEGIN memcpy(uuid->bytes, "\xa0\x00\x00\x00STUB\x00\x00\x00\x00\x00\x00\x00\x00", 16);
  uuid->bytes[0] = (char)(0xa0 + device);
  uuid->bytes[15] = (char)device;
  END(known(device));
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  BEGIN *bytes = memory_bytes;
  END(known(device));
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  BEGIN CUresult failure = known(device);
  if (failure) END(failure);
  *major = capability[device][0], *minor = capability[device][1];
  END(CUDA_SUCCESS);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  BEGIN CUresult failure = known(device);
  if (failure) END(failure);
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability[device][0]; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability[device][1]; break;
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED: *value = 1; break;
    default: END(CUDA_ERROR_NOT_SUPPORTED);
  }
  END(CUDA_SUCCESS);
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  static const struct {
    int code;
    const char *text;
  } texts[] = {
      {0, "no error"},
      {1, "invalid argument"},
      {2, "out of memory"},
      {3, "initialization error"},
      {34, "stub library loaded instead of the actual driver"},
      {100, "no CUDA-capable device is detected"},
      {101, "invalid device ordinal"},
      {200, "device kernel image is invalid"},
      {201, "invalid device context"},
      {209, "no kernel image is available for execution on the device"},
      {214, "uncorrectable ECC error encountered"},
      {218, "a PTX JIT compilation failed"},
      {222, "the provided PTX was compiled with an unsupported toolchain."},
      {400, "invalid resource handle"},
      {500, "named symbol not found"},
      {600, "device not ready"},
      {700, "an illegal memory access was encountered"},
      {701, "too many resources requested for launch"},
      {702, "the launch timed out and was terminated"},
      {709, "context is destroyed"},
      {712, "part or all of the requested memory range is already mapped"},
      {713, "pointer does not correspond to a registered memory region"},
      {719, "unspecified launch failure"},
      {801, "operation not supported"},
      {803, "system has unsupported display driver / cuda driver combination"},
      {900, "operation not permitted when stream is capturing"},
      {901, "operation failed due to a previous error during capture"},
      {904, "capture was ended before all forked streams were joined"},
      {906, "operation would make the legacy stream depend on a capturing blocking stream"},
      {907, "operation not permitted on an event last recorded in a capturing stream"},
      {999, "unknown error"},
  };
  *text = "unrecognized error code";
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i].code == (int)error) {
      *text = texts[i].text;
      return CUDA_SUCCESS;
    }
  return CUDA_ERROR_INVALID_VALUE;
}

// ------------------------------------------------------------------ contexts

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  BEGIN CUresult failure = known(device);
  if (failure) END(failure);
  if (stub_contexts[device].lost) END(stub_contexts[device].lost);
  stub_contexts[device].references++;
  *context = (CUcontext)&stub_contexts[device];
  END(CUDA_SUCCESS);
}

void stub_drop_context(Context *context) {
  stub_drop_graphs(context);
  stub_drop_streams(context);
  stub_drop_modules(context);
  stub_drop_memory(context);
}

// As the driver does: the context stays on the stacks that it was pushed on.
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN CUresult failure = known(device);
  if (failure) END(failure);
  if (!stub_contexts[device].references) END(CUDA_ERROR_INVALID_CONTEXT);
  if (!--stub_contexts[device].references) stub_drop_context(&stub_contexts[device]);
  END(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent(CUcontext context) {
  BEGIN if (!context) END(CUDA_ERROR_INVALID_CONTEXT);
  if (depth == MAX_DEPTH) END(CUDA_ERROR_OUT_OF_MEMORY);
  stack[depth++] = (Context *)context;
  pushed++;
  END(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent(CUcontext *context) {
  BEGIN if (!depth) END(CUDA_ERROR_INVALID_CONTEXT);
  CUcontext top = (CUcontext)stack[--depth];
  if (context) *context = top;
  pushed--;
  END(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  BEGIN *context = (CUcontext)stub_current();
  END(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device) {
  BEGIN_IN(context) *device = context->device;
  END(CUDA_SUCCESS);
}

CUresult cuCtxSynchronize(void) {
  BEGIN_IN(context) if (stub_unsafe_while_capturing()) END(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  END(stub_run_all(context));
}
