// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// A stub of the CUDA driver for tests: host memory plays the device.
//
// Work is deferred as far as the driver's rules allow. A stream is a queue; what lies in it happens
// when somebody synchronises, and not before, in the order that streams and events demand and no
// other. So a wait that is missing, or a buffer that is used again too early, gives wrong bytes.
#ifndef AV_COMPRESS_CUDA_STUB_H
#define AV_COMPRESS_CUDA_STUB_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DEVICES 8
#define MAX_DEPTH 16
#define MAX_ARGUMENTS 4096

typedef struct Context {
  int device;
  int references;
  CUresult lost;  // Once set, every use answers so, as after a fault on a real device.
} Context;

typedef struct Range {  // Device memory, a module's function, or page-locked host memory.
  struct Range *next;
  Context *context;
  uintptr_t start;
  size_t bytes;
  void *mapping;
  size_t mapped;
  bool freed;
} Range;

typedef struct CUevent_st Event;
typedef struct CUstream_st Stream;
typedef struct CUgraph_st Graph;

typedef void (*Kernel)(const void *arguments, const unsigned *grid, const unsigned *block);

typedef struct CUfunc_st {
  struct CUfunc_st *next;
  Kernel run;
  size_t argument_bytes;
  struct CUmod_st *module;
} Function;

typedef enum { COPY, FILL, KERNEL, HOST, RECORD, WAIT, GRAPH } Kind;

typedef struct Operation {
  struct Operation *next;
  Kind kind;
  void *to;            // COPY, FILL
  const void *from;    // COPY
  void *staged;        // COPY from pageable memory: the bytes as they were at the call.
  size_t bytes;
  unsigned value;      // FILL
  unsigned width;      // FILL: bytes of an element
  Function *function;  // KERNEL
  unsigned grid[3], block[3];
  unsigned char arguments[MAX_ARGUMENTS];
  CUhostFn host;  // HOST
  void *data;
  Event *event;  // RECORD, WAIT
  uint64_t ticket;
  struct CUstream_st *recorded_in;  // WAIT: the event may be recorded elsewhere by then.
  Graph *graph;  // GRAPH
  int branch;    // In a graph: which stream it was recorded on.
  bool done;     // In a graph that runs.
} Operation;

typedef struct Capture {
  Graph *graph;
  CUstreamCaptureMode mode;
  Stream *origin;
  long thread;
  bool invalid;
  int branches;
  int joined;  // Bit per branch: the origin waited for its end.
} Capture;

struct CUstream_st {
  Stream *next;
  Context *context;
  unsigned flags;
  bool busy, destroyed;
  Operation *head, *tail;
  Capture *capture;
  int branch;
};

struct CUevent_st {
  Event *next;
  Context *context;
  unsigned flags;
  int references;
  bool destroyed;
  uint64_t issued, completed;
  uint64_t time;  // Nanoseconds of the stub's clock.
  Stream *stream;
  Capture *capture;  // While its record belongs to a capture.
};

struct CUgraph_st {
  Graph *next;
  Context *context;
  Operation *head, *tail;
  int references;
  bool destroyed;
};

typedef struct CUgraphExec_st {
  struct CUgraphExec_st *next;
  Graph *graph;
} GraphExec;

// One lock over everything; it is released while host functions run.
void stub_lock(void);
void stub_unlock(void);
// Counts the call, and says whether it is to fail. Takes the lock.
CUresult stub_enter(const char *function);
CUresult stub_leave(CUresult result);
extern Context stub_contexts[MAX_DEVICES];
extern bool stub_initialised;
Context *stub_current(void);
CUresult stub_usable(Context **context);
void stub_note(const char *name);  // Counts what is no call: an implicit synchronisation.
long stub_thread(void);

bool stub_pinned(const void *start, size_t bytes);
Range *stub_device_range(uintptr_t start, size_t bytes, bool freed);
void stub_drop_context(Context *context);
void stub_drop_memory(Context *context);
void stub_drop_streams(Context *context);
void stub_drop_modules(Context *context);
void stub_drop_graphs(Context *context);
int stub_live_memory(int kind);
int stub_live_streams(int kind);
int stub_live_modules(void);
int stub_live_graphs(void);

CUresult stub_enqueue(Stream *stream, Operation *operation);
CUresult stub_run(Stream *stream);
CUresult stub_run_all(Context *context);
CUresult stub_execute(Context *context, Operation *operation);
CUresult stub_run_graph(Context *context, Graph *graph);
CUresult stub_find_stream(CUstream handle, Stream **stream);
void stub_free_operation(Operation *operation);
bool stub_unsafe_while_capturing(void);
Operation *stub_operation(Kind kind);
Graph *stub_new_graph(Context *context);
void stub_release_graph(Graph *graph);

// Every function of the driver starts and ends so; in between it holds the lock.
#define BEGIN                                        \
  {                                                  \
    CUresult failure_ = stub_enter(__func__);        \
    if (failure_) return stub_leave(failure_);       \
  }
#define BEGIN_IN(context)                            \
  Context *context;                                  \
  BEGIN {                                            \
    CUresult failure_ = stub_usable(&context);       \
    if (failure_) return stub_leave(failure_);       \
  }
#define END(result) return stub_leave(result)

#endif
