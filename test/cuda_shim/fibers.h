// Copyright 2026 The av_compress authors
// SPDX-License-Identifier: Apache-2.0
// The threads of a block, each with a stack of its own: one runs until it ends or waits for the
// others. A seed in AV_COMPRESS_SHIM_SEED shuffles their order, and lets them also stop at atomic
// operations; without one they run the last first.
#ifndef AV_COMPRESS_SHIM_FIBERS_H
#define AV_COMPRESS_SHIM_FIBERS_H

// Its check of longjmp takes another stack for a fault. Only before all other headers is it heard.
#undef _FORTIFY_SOURCE

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace shim {

constexpr std::size_t kStack = 64 << 10;

struct Fiber {
  enum State { IDLE, RUNNING, WAITING, PAUSED } state = IDLE;
  unsigned thread = 0;
  bool started = false;
  ucontext_t start;
  jmp_buf here;
  std::unique_ptr<char[]> stack{new char[kStack]};
};

class Threads {
 public:
  Threads() {
    const char *seed = std::getenv("AV_COMPRESS_SHIM_SEED");
    if (seed) random_.reset(new std::mt19937(std::strtoul(seed, nullptr, 10)));
  }

  // Numbers below `count`, in the order in which they are to be done: from the end.
  std::vector<unsigned> order(unsigned count) {
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0u);
    if (random_) std::shuffle(numbers.begin(), numbers.end(), *random_);
    return numbers;
  }

  // Do `body` of every thread of a block; `enter` is told which one goes on.
  void run(unsigned count, std::function<void()> body, std::function<void(unsigned)> enter) {
    body_ = std::move(body);
    std::vector<unsigned> fresh = order(count);
    std::vector<Fiber *> ready, waiting;
    while (!fresh.empty() || !ready.empty() || !waiting.empty()) {
      if (fresh.empty() && ready.empty()) ready.swap(waiting);  // All have come: on they go.
      Fiber *fiber = next(fresh, ready);
      enter(fiber->thread);
      resume(fiber);
      if (fiber->state == Fiber::IDLE) idle_.push_back(fiber);
      if (fiber->state == Fiber::WAITING) waiting.push_back(fiber);
      if (fiber->state == Fiber::PAUSED) ready.push_back(fiber);
    }
  }

  void wait() { leave(Fiber::WAITING); }

  void maybe_pause() {
    if (random_ && (*random_)() % 2) leave(Fiber::PAUSED);
  }

  static thread_local Threads *current;

 private:
  Fiber *next(std::vector<unsigned> &fresh, std::vector<Fiber *> &ready) {
    // At random, so that a thread that has paused comes late as well.
    const bool old = fresh.empty() || (!ready.empty() && random_ && (*random_)() % 2);
    if (old) {
      if (random_) std::swap(ready[(*random_)() % ready.size()], ready.back());
      Fiber *fiber = ready.back();
      ready.pop_back();
      return fiber;
    }
    if (idle_.empty()) {
      fibers_.emplace_back(new Fiber);
      idle_.push_back(fibers_.back().get());
    }
    Fiber *fiber = idle_.back();
    idle_.pop_back();
    fiber->thread = fresh.back();
    fresh.pop_back();
    return fiber;
  }

  void resume(Fiber *fiber) {
    running_ = fiber;
    fiber->state = Fiber::RUNNING;
    if (_setjmp(scheduler_)) return;
    if (fiber->started) _longjmp(fiber->here, 1);
    fiber->started = true;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack.get();
    fiber->start.uc_stack.ss_size = kStack;
    makecontext(&fiber->start, &Threads::begin, 0);
    setcontext(&fiber->start);
  }

  // A stack serves one thread after the other.
  static void begin() {
    while (true) {
      current->body_();
      current->leave(Fiber::IDLE);
    }
  }

  void leave(Fiber::State state) {
    running_->state = state;
    if (!_setjmp(running_->here)) _longjmp(scheduler_, 1);
  }

  std::unique_ptr<std::mt19937> random_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber *> idle_;
  std::function<void()> body_;
  Fiber *running_ = nullptr;
  jmp_buf scheduler_;
};

thread_local Threads *Threads::current = nullptr;

}  // namespace shim

static inline void __syncthreads() { shim::Threads::current->wait(); }

// One operating-system thread runs them all: that no other comes between is given.
template <typename T, typename Change>
static inline T shim_atomic(T *at, Change change) {
  shim::Threads::current->maybe_pause();
  const T old = *at;
  *at = change(old);
  shim::Threads::current->maybe_pause();
  return old;
}

template <typename T>
static inline T atomicAdd(T *at, T value) {
  return shim_atomic(at, [=](T old) { return old + value; });
}
template <typename T>
static inline T atomicMin(T *at, T value) {
  return shim_atomic(at, [=](T old) { return value < old ? value : old; });
}
template <typename T>
static inline T atomicCAS(T *at, T expected, T value) {
  return shim_atomic(at, [=](T old) { return old == expected ? value : old; });
}

#endif
