// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// Graphs of captured work, modules and their kernels.
#define _GNU_SOURCE
#include "stub.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static GraphExec *executables;
static Graph *graphs;

int stub_live_graphs(void) {
  int live = 0;
  for (GraphExec *executable = executables; executable; executable = executable->next) live++;
  for (Graph *graph = graphs; graph; graph = graph->next) live += !graph->destroyed;
  return live;
}

Graph *stub_new_graph(Context *context) {
  Graph *graph = calloc(1, sizeof *graph);
  *graph = (Graph){.next = graphs, .context = context, .references = 1};
  return graphs = graph;
}

void stub_release_graph(Graph *graph) {
  if (--graph->references) return;
  for (Graph **link = &graphs; *link; link = &(*link)->next)
    if (*link == graph) {
      *link = graph->next;
      break;
    }
  while (graph->head) {
    Operation *next = graph->head->next;
    stub_free_operation(graph->head);
    graph->head = next;
  }
  free(graph);
}

static void remove_executable(GraphExec *executable) {
  for (GraphExec **link = &executables; *link; link = &(*link)->next)
    if (*link == executable) {
      *link = executable->next;
      break;
    }
  stub_release_graph(executable->graph);
  free(executable);
}

void stub_drop_graphs(Context *context) {
  for (GraphExec *executable = executables, *next; executable; executable = next) {
    next = executable->next;
    if (executable->graph->context == context) remove_executable(executable);
  }
}

// One stream's part, until the record of `event` that has `ticket`, if one is named. Other parts
// are done only where a wait demands it.
static CUresult run_branch(Context *context, Graph *graph, int branch, const Event *event,
                           uint64_t ticket) {
  for (Operation *operation = graph->head; operation; operation = operation->next) {
    if (operation->branch != branch) continue;
    if (!operation->done) {
      CUresult failure = CUDA_SUCCESS;
      operation->done = true;
      if (operation->kind == WAIT) {
        for (Operation *record = graph->head; record; record = record->next)
          if (record->kind == RECORD && record->event == operation->event &&
              record->ticket == operation->ticket)
            failure = run_branch(context, graph, record->branch, record->event, record->ticket);
      } else if (operation->kind != RECORD) {
        failure = stub_execute(context, operation);
      }
      if (failure) return failure;
    }
    if (event && operation->kind == RECORD && operation->event == event &&
        operation->ticket == ticket)
      return CUDA_SUCCESS;
  }
  return CUDA_SUCCESS;
}

CUresult stub_run_graph(Context *context, Graph *graph) {
  for (Operation *operation = graph->head; operation; operation = operation->next)
    operation->done = false;
  return run_branch(context, graph, 0, NULL, 0);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *handle, CUgraph graph,
                                     unsigned long long flags) {
  (void)flags;
  BEGIN_IN(context) (void)context;
  GraphExec *executable = calloc(1, sizeof *executable);
  *executable = (GraphExec){executables, graph};
  graph->references++;
  executables = executable;
  *handle = executable;
  END(CUDA_SUCCESS);
}

CUresult cuGraphDestroy(CUgraph graph) {
  BEGIN_IN(context) (void)context;
  if (graph->destroyed) END(CUDA_ERROR_INVALID_HANDLE);
  graph->destroyed = true;  // What was made from it may live on.
  stub_release_graph(graph);
  END(CUDA_SUCCESS);
}

static GraphExec *find_executable(CUgraphExec handle) {
  for (GraphExec *executable = executables; executable; executable = executable->next)
    if (executable == handle) return executable;
  return NULL;
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
  BEGIN_IN(context) (void)context;
  GraphExec *executable = find_executable(handle);
  if (!executable) END(CUDA_ERROR_INVALID_HANDLE);
  remove_executable(executable);
  END(CUDA_SUCCESS);
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  BEGIN_IN(context) (void)context;
  GraphExec *executable = find_executable(handle);
  Stream *stream;
  CUresult failure = stub_find_stream(stream_handle, &stream);
  if (!executable) failure = CUDA_ERROR_INVALID_HANDLE;
  if (failure) END(failure);
  Operation *operation = stub_operation(GRAPH);
  operation->graph = executable->graph;
  executable->graph->references++;
  END(stub_enqueue(stream, operation));
}

// ------------------------------------------------------------------ modules
//
// The image of a module is a shared library of this machine, which test/cuda_shim builds from a
// kernel's source. For a kernel NAME it has NAME_on_host, which runs it over a grid, and
// NAME_argument_bytes.

typedef struct CUmod_st {
  struct CUmod_st *next;
  Context *context;
  void *library;
  Function *functions;
  bool unloaded;
} Module;

static Module *modules;

int stub_live_modules(void) {
  int live = 0;
  for (Module *module = modules; module; module = module->next) live += !module->unloaded;
  return live;
}

static void unload(Module *module) {
  module->unloaded = true;  // The library stays loaded: its functions may lie in queues.
}

void stub_drop_modules(Context *context) {
  for (Module *module = modules; module; module = module->next)
    if (module->context == context) unload(module);
}

static CUresult load(Module *module, const void *image) {
  const Elf64_Ehdr *header = image;
  if (memcmp(image, ELFMAG, SELFMAG)) return CUDA_ERROR_INVALID_IMAGE;
  if (header->e_machine != EM_X86_64) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  size_t bytes = header->e_shoff + (size_t)header->e_shentsize * header->e_shnum;
  // A name of its own: a library of a name that is loaded already would not be loaded again.
  char path[] = P_tmpdir "/stub_module_XXXXXX";
  int file = mkstemp(path);
  if (file < 0 || write(file, image, bytes) != (ssize_t)bytes) return CUDA_ERROR_UNKNOWN;
  module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  close(file);
  unlink(path);
  return module->library ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult cuModuleLoadDataEx(CUmodule *handle, const void *image, unsigned count,
                            CUjit_option *options, void **values) {
  BEGIN_IN(context)
  for (unsigned i = 0; i < count; i++)  // The lengths of the logs.
    if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES ||
        options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      values[i] = 0;
    else if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
      *(char *)values[i] = 0;
  Module *module = calloc(1, sizeof *module);
  CUresult failure = load(module, image);
  if (failure) {
    free(module);
    END(failure);
  }
  module->context = context;
  module->next = modules;
  modules = module;
  *handle = module;
  END(CUDA_SUCCESS);
}

CUresult cuModuleLoadData(CUmodule *handle, const void *image) {
  return cuModuleLoadDataEx(handle, image, 0, NULL, NULL);
}

static Module *find_module(CUmodule handle) {
  for (Module *module = modules; module; module = module->next)
    if (module == handle && !module->unloaded) return module;
  return NULL;
}

CUresult cuModuleUnload(CUmodule handle) {
  BEGIN_IN(context) (void)context;
  Module *module = find_module(handle);
  if (!module) END(CUDA_ERROR_INVALID_HANDLE);
  unload(module);
  END(CUDA_SUCCESS);
}

CUresult cuModuleGetFunction(CUfunction *handle, CUmodule module_handle, const char *name) {
  BEGIN_IN(context) (void)context;
  Module *module = find_module(module_handle);
  if (!module) END(CUDA_ERROR_INVALID_HANDLE);
  char symbol[256];
  snprintf(symbol, sizeof symbol, "%s_on_host", name);
  void *run = dlsym(module->library, symbol);
  snprintf(symbol, sizeof symbol, "%s_argument_bytes", name);
  size_t *bytes = dlsym(module->library, symbol);
  if (!run || !bytes) END(CUDA_ERROR_NOT_FOUND);
  Function *function = calloc(1, sizeof *function);
  *function = (Function){module->functions, (Kernel)run, *bytes, module};
  module->functions = function;
  *handle = function;
  END(CUDA_SUCCESS);
}

CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
  (void)function;
  BEGIN_IN(context) (void)context;
  END(x > 0 && y > 0 && z > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

static bool shape_allowed(const unsigned *grid, const unsigned *block) {
  static const unsigned most_grid[] = {2147483647u, 65535, 65535}, most_block[] = {1024, 1024, 64};
  for (int axis = 0; axis < 3; axis++)
    if (!grid[axis] || !block[axis] || grid[axis] > most_grid[axis] ||
        block[axis] > most_block[axis])
      return false;
  return block[0] * block[1] * block[2] <= 1024;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream handle, void **parameters, void **extra) {
  (void)shared;
  BEGIN_IN(context) Stream *stream;
  CUresult failure = stub_find_stream(handle, &stream);
  if (failure) END(failure);
  if (function->module->context != context || function->module->unloaded)
    END(CUDA_ERROR_INVALID_HANDLE);
  unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
  if (!shape_allowed(grid, block)) END(CUDA_ERROR_INVALID_VALUE);
  // PyCUDA gives one buffer with all arguments.
  if (parameters || !extra || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER ||
      extra[2] != CU_LAUNCH_PARAM_BUFFER_SIZE)
    END(CUDA_ERROR_NOT_SUPPORTED);
  size_t bytes = *(size_t *)extra[3];
  if (bytes != function->argument_bytes || bytes > MAX_ARGUMENTS) END(CUDA_ERROR_INVALID_VALUE);
  Operation *operation = stub_operation(KERNEL);
  operation->function = function;
  memcpy(operation->grid, grid, sizeof grid);
  memcpy(operation->block, block, sizeof block);
  memcpy(operation->arguments, extra[1], bytes);
  END(stub_enqueue(stream, operation));
}
