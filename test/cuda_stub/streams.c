// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Streams and events: queues of work that is done when somebody waits for it.
#define _GNU_SOURCE
#include "stub.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static Stream *streams;
static Event *events;
static uint64_t clock_ns = 1000000;  // Deterministic: work takes what it takes by its size.
static int captures[2];              // Under way: in this process, by mode global or thread-local.
static long capturing_thread;

Operation *stub_operation(Kind kind) {
  Operation *operation = calloc(1, sizeof *operation);
  operation->kind = kind;
  return operation;
}

static void release_event(Event *event) {
  if (--event->references) return;
  for (Event **link = &events; *link; link = &(*link)->next)
    if (*link == event) {
      *link = event->next;
      break;
    }
  free(event);
}

void stub_free_operation(Operation *operation) {
  if (operation->event) release_event(operation->event);
  if (operation->graph) stub_release_graph(operation->graph);
  free(operation->staged);
  free(operation);
}

int stub_live_streams(int kind) {
  int live = 0;
  if (kind)
    for (Event *event = events; event; event = event->next) live += !event->destroyed;
  else
    for (Stream *stream = streams; stream; stream = stream->next) live += !stream->destroyed;
  return live;
}

// Allocating and the like is not allowed while a stream is captured, but in relaxed mode.
bool stub_unsafe_while_capturing(void) {
  return captures[0] || (captures[1] && capturing_thread == stub_thread());
}

CUresult stub_find_stream(CUstream handle, Stream **found) {
  *found = NULL;
  if (!handle || handle == CU_STREAM_LEGACY) {
    // The stream that synchronises with all blocking ones: its work is done at once.
    static Stream legacy[MAX_DEVICES];
    Context *context = stub_current();
    *found = &legacy[context->device];
    (*found)->context = context;
    return CUDA_SUCCESS;
  }
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream == (Stream *)handle && !stream->destroyed) {
      if (stream->context != stub_current()) return CUDA_ERROR_INVALID_HANDLE;
      *found = stream;
      return CUDA_SUCCESS;
    }
  return CUDA_ERROR_INVALID_HANDLE;
}

static bool is_legacy(const Stream *stream) {
  for (Stream *known = streams; known; known = known->next)
    if (known == stream) return false;
  return true;
}

// ------------------------------------------------------------------ doing what is queued

static CUresult run_until(Stream *stream, const Event *event, uint64_t ticket);

static CUresult lose(Context *context, CUresult code) { return context->lost = code; }

static CUresult do_kernel(Context *context, Operation *operation) {
  Function *function = operation->function;
  // The words that are addresses of freed memory: a real kernel would fault there.
  for (size_t at = 0; at + 8 <= function->argument_bytes; at += 8) {
    uintptr_t word;
    memcpy(&word, operation->arguments + at, sizeof word);
    if (stub_device_range(word, 0, true)) return lose(context, CUDA_ERROR_ILLEGAL_ADDRESS);
  }
  function->run(operation->arguments, operation->grid, operation->block);
  clock_ns += 5000;
  return CUDA_SUCCESS;
}

CUresult stub_execute(Context *context, Operation *operation) {
  switch (operation->kind) {
    case COPY: {
      uintptr_t ends[] = {(uintptr_t)operation->to, (uintptr_t)operation->from};
      for (int i = 0; i < 2; i++)
        if (stub_device_range(ends[i], 0, true)) return lose(context, CUDA_ERROR_ILLEGAL_ADDRESS);
      memmove(operation->to, operation->staged ? operation->staged : operation->from,
              operation->bytes);
      clock_ns += 1000 + operation->bytes / 10;
      return CUDA_SUCCESS;
    }
    case FILL:
      if (stub_device_range((uintptr_t)operation->to, 0, true))
        return lose(context, CUDA_ERROR_ILLEGAL_ADDRESS);
      for (size_t at = 0; at < operation->bytes; at += operation->width)
        memcpy((char *)operation->to + at, &operation->value, operation->width);
      clock_ns += 1000;
      return CUDA_SUCCESS;
    case KERNEL: return do_kernel(context, operation);
    case HOST:
      // It may need Python's lock, which a thread that waits for ours may hold.
      stub_unlock();
      operation->host(operation->data);
      stub_lock();
      clock_ns += 2000;
      return CUDA_SUCCESS;
    case RECORD:
      if (operation->event->completed < operation->ticket) {
        operation->event->completed = operation->ticket;
        operation->event->time = clock_ns;
      }
      return CUDA_SUCCESS;
    case WAIT:
      return run_until(operation->recorded_in, operation->event, operation->ticket);
    case GRAPH: return stub_run_graph(context, operation->graph);
  }
  return CUDA_ERROR_UNKNOWN;
}

static pthread_mutex_t turn_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;

// One thread at a time takes from a stream; others wait until it has done what it took.
static void await_turn(Stream *stream) {
  while (stream->busy) {
    pthread_mutex_lock(&turn_mutex);
    stub_unlock();
    pthread_cond_wait(&turn, &turn_mutex);
    pthread_mutex_unlock(&turn_mutex);
    stub_lock();
  }
}

static CUresult step(Stream *stream) {
  Operation *operation = stream->head;
  stream->head = operation->next;
  if (!stream->head) stream->tail = NULL;
  stream->busy = true;
  Context *context = stream->context;
  CUresult failure = context->lost ? context->lost : stub_execute(context, operation);
  stub_free_operation(operation);
  pthread_mutex_lock(&turn_mutex);
  stream->busy = false;
  pthread_cond_broadcast(&turn);
  pthread_mutex_unlock(&turn_mutex);
  return failure;
}

static CUresult run_until(Stream *stream, const Event *event, uint64_t ticket) {
  while (true) {
    // First of all: the stream may be in the midst of what led here.
    if (event && event->completed >= ticket) return stream->context->lost;
    await_turn(stream);
    if (event && event->completed >= ticket) continue;
    if (!stream->head) return stream->context->lost;
    CUresult failure = step(stream);
    if (failure) return failure;
  }
}

CUresult stub_run(Stream *stream) { return run_until(stream, NULL, 0); }

CUresult stub_run_all(Context *context) {
  CUresult failure = CUDA_SUCCESS;
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream->context == context && !stream->destroyed && !failure) failure = stub_run(stream);
  return failure;
}

static CUresult run_blocking(Context *context) {
  CUresult failure = CUDA_SUCCESS;
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream->context == context && !stream->destroyed && !failure &&
        !(stream->flags & CU_STREAM_NON_BLOCKING))
      failure = stub_run(stream);
  return failure;
}

CUresult stub_enqueue(Stream *stream, Operation *operation) {
  if (is_legacy(stream)) {
    stub_note("legacy stream");
    CUresult failure = run_blocking(stream->context);
    if (!failure) failure = stub_execute(stream->context, operation);
    stub_free_operation(operation);
    return failure;
  }
  operation->branch = stream->branch;
  Operation **head = &stream->head, **tail = &stream->tail;
  if (stream->capture) {
    if (stream->capture->invalid) {
      stub_free_operation(operation);
      return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    head = &stream->capture->graph->head;
    tail = &stream->capture->graph->tail;
  }
  if (*tail) (*tail)->next = operation;
  else *head = operation;
  *tail = operation;
  return CUDA_SUCCESS;
}

void stub_drop_streams(Context *context) {
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream->context == context) {
      stream->destroyed = true;
      while (stream->head) {
        Operation *next = stream->head->next;
        stub_free_operation(stream->head);
        stream->head = next;
      }
      stream->tail = NULL;
    }
  for (Event *event = events, *next; event; event = next) {
    next = event->next;
    if (event->context != context || event->destroyed) continue;
    event->destroyed = true;
    release_event(event);
  }
}

// ------------------------------------------------------------------ streams

CUresult cuStreamCreate(CUstream *handle, unsigned flags) {
  BEGIN_IN(context) Stream *stream = calloc(1, sizeof *stream), **end = &streams;
  stream->context = context;
  stream->flags = flags;
  while (*end) end = &(*end)->next;
  *end = stream;
  *handle = stream;
  END(CUDA_SUCCESS);
}

// What it still holds is done first. Its handle stays known, so that its use is found out.
CUresult cuStreamDestroy(CUstream handle) {
  BEGIN_IN(context) (void)context;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (!failure && is_legacy(stream)) failure = CUDA_ERROR_INVALID_HANDLE;
  if (failure) END(failure);
  failure = stub_run(stream);
  stream->destroyed = true;
  END(failure);
}

CUresult cuStreamSynchronize(CUstream handle) {
  BEGIN_IN(context) Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  if (stream->capture) {
    stream->capture->invalid = true;
    END(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  END(is_legacy(stream) ? run_blocking(context) : stub_run(stream));
}

// A query that finds work says so, and one piece of it is done: who polls gets an end, later.
static CUresult query(Stream *stream) {
  if (!stream->head || stream->busy) return stream->busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
  CUresult failure = step(stream);
  return failure ? failure : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamQuery(CUstream handle) {
  BEGIN_IN(context) (void)context;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  END(failure ? failure : query(stream));
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data) {
  BEGIN_IN(context) (void)context;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  Operation *operation = stub_operation(HOST);
  operation->host = function;
  operation->data = data;
  END(stub_enqueue(stream, operation));
}

// ------------------------------------------------------------------ events

static CUresult find_event(CUevent handle, Event **found) {
  for (Event *event = events; event; event = event->next)
    if (event == handle && !event->destroyed) {
      *found = event;
      return event->context == stub_current() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    }
  return CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
  BEGIN_IN(context) Event *event = calloc(1, sizeof *event);
  *event = (Event){.next = events, .context = context, .flags = flags, .references = 1};
  events = event;
  *handle = event;
  END(CUDA_SUCCESS);
}

CUresult cuEventDestroy(CUevent handle) {
  BEGIN_IN(context) (void)context;
  Event *event;
  CUresult failure = find_event(handle, &event);
  if (failure) END(failure);
  event->destroyed = true;
  release_event(event);
  END(CUDA_SUCCESS);
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
  BEGIN_IN(context) (void)context;
  Event *event;
  Stream *stream;
  CUresult failure = find_event(handle, &event);
  if (!failure) failure = stub_find_stream(stream_handle, &stream);
  if (failure) END(failure);
  Operation *operation = stub_operation(RECORD);
  operation->event = event;
  operation->ticket = ++event->issued;
  event->references++;
  event->stream = stream;
  event->capture = stream->capture;
  END(stub_enqueue(stream, operation));
}

CUresult cuEventSynchronize(CUevent handle) {
  BEGIN_IN(context) (void)context;
  Event *event;
  CUresult failure = find_event(handle, &event);
  if (failure) END(failure);
  if (event->capture) END(CUDA_ERROR_CAPTURED_EVENT);
  if (event->completed >= event->issued) END(CUDA_SUCCESS);
  END(run_until(event->stream, event, event->issued));
}

CUresult cuEventQuery(CUevent handle) {
  BEGIN_IN(context) (void)context;
  Event *event;
  CUresult failure = find_event(handle, &event);
  if (failure) END(failure);
  if (event->capture) END(CUDA_ERROR_CAPTURED_EVENT);
  END(event->completed >= event->issued ? CUDA_SUCCESS : query(event->stream));
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent first, CUevent last) {
  BEGIN_IN(context) (void)context;
  Event *start, *end;
  CUresult failure = find_event(first, &start);
  if (!failure) failure = find_event(last, &end);
  if (failure) END(failure);
  if (!start->issued || !end->issued || (start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)
    END(CUDA_ERROR_INVALID_HANDLE);
  if (start->capture || end->capture) END(CUDA_ERROR_CAPTURED_EVENT);
  if (start->completed < start->issued || end->completed < end->issued) END(CUDA_ERROR_NOT_READY);
  *milliseconds = (float)((double)((int64_t)end->time - (int64_t)start->time) / 1e6);
  END(CUDA_SUCCESS);
}

// A wait is for the record that was the latest at the call; without one it is nothing.
CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
  (void)flags;
  BEGIN_IN(context) (void)context;
  Event *event;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (!failure) failure = find_event(event_handle, &event);
  if (failure) END(failure);
  if (!event->issued) END(CUDA_SUCCESS);
  if (event->capture) {
    Capture *capture = event->capture;
    if (stream->capture && stream->capture != capture) END(CUDA_ERROR_STREAM_CAPTURE_MERGE);
    if (!stream->capture) {  // The wait takes the stream into the capture.
      stream->capture = capture;
      stream->branch = ++capture->branches;
    }
    if (stream == capture->origin) capture->joined |= 1 << event->stream->branch;
  } else if (stream->capture) {
    stream->capture->invalid = true;
    END(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  Operation *operation = stub_operation(WAIT);
  operation->event = event;
  operation->ticket = event->issued;
  operation->recorded_in = event->stream;
  event->references++;
  END(stub_enqueue(stream, operation));
}

// ------------------------------------------------------------------ captures

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  BEGIN_IN(context) Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  if (is_legacy(stream)) END(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (stream->capture) END(CUDA_ERROR_ILLEGAL_STATE);
  stream->capture = calloc(1, sizeof *stream->capture);
  stream->capture->graph = stub_new_graph(context);
  stream->capture->mode = mode;
  stream->capture->origin = stream;
  stream->capture->thread = stub_thread();
  stream->branch = 0;
  if (mode != CU_STREAM_CAPTURE_MODE_RELAXED) captures[mode]++;
  capturing_thread = stub_thread();
  END(CUDA_SUCCESS);
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
  BEGIN_IN(context) (void)context;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  *status = !stream->capture            ? CU_STREAM_CAPTURE_STATUS_NONE
            : stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  END(CUDA_SUCCESS);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
  BEGIN_IN(context) (void)context;
  Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  Capture *capture = stream->capture;
  if (!capture) END(CUDA_ERROR_ILLEGAL_STATE);
  if (capture->origin != stream) END(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) captures[capture->mode]--;
  for (int branch = 1; branch <= capture->branches; branch++)
    if (!(capture->joined & 1 << branch)) failure = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  if (capture->invalid) failure = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  for (Stream *other = streams; other; other = other->next)
    if (other->capture == capture) other->capture = NULL;
  for (Event *event = events; event; event = event->next)
    if (event->capture == capture) {
      event->capture = NULL;  // Its record is a dependency within the graph, and no more.
      event->issued = event->completed;
    }
  *graph = failure ? NULL : capture->graph;
  if (failure) stub_release_graph(capture->graph);
  free(capture);
  END(failure);
}
