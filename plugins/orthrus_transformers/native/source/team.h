// A team of threads that runs one job together: everybody runs all of it, and shares the work of each step.
//
// Steps are handed out in small pieces, so a thread that the system takes from its core delays its own piece only. Who
// waits does so politely: it looks for some microseconds, then sleeps until it is woken.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace orthrus {

class Team {
  public:
    explicit Team(int size) : size_(size < 1 ? 1 : size) {
        for (int member = 1; member < size_; member++) workers_.emplace_back([this] { work(); });
    }

    ~Team() {
        stopped_ = true;
        call_.fetch_add(1);
        call_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    Team(const Team&) = delete;

    // Let all members run the job, the calling thread among them; return when all are through.
    template <class Job> void run(Job&& job) {
        if (size_ == 1) return job();
        job_ = std::ref(job);
        call_.fetch_add(1);
        call_.notify_all();
        job();
        barrier();
    }

    // Do work(i) for all i below count, each once, in pieces of so many; return when all members are through.
    template <class Work> void share(int64_t count, int64_t piece, Work&& work) {
        if (size_ == 1) {
            for (int64_t i = 0; i < count; i++) work(i);
            return;
        }
        for (int64_t first; (first = next_.fetch_add(piece)) < count;)
            for (int64_t i = first; i < first + piece && i < count; i++) work(i);
        barrier();
    }

    int size() const { return size_; }

  private:
    static constexpr int LOOKS = 20000;  // before sleeping: some 30 microseconds; to be woken takes as long
    static constexpr int PAUSE_EVERY = 64;  // looks: virtual machines are stopped for many pauses

    void work() {
        uint32_t seen = 0;
        for (;;) {
            await_change(call_, seen);
            seen++;
            if (stopped_) return;
            job_();
            barrier();
        }
    }

    void barrier() {
        uint32_t phase = phase_.load();
        if (arrived_.fetch_add(1) + 1 < size_) return await_change(phase_, phase);
        arrived_ = 0;
        next_ = 0;
        phase_.fetch_add(1);
        phase_.notify_all();
    }

    static void await_change(std::atomic<uint32_t>& word, uint32_t old) {
        for (int look = 0; look < LOOKS; look++) {
            if (word.load(std::memory_order_acquire) != old) return;
            if (look % PAUSE_EVERY == PAUSE_EVERY - 1) pause();
        }
        word.wait(old);
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    const int size_;
    std::vector<std::thread> workers_;
    std::function<void()> job_;
    std::atomic<bool> stopped_{false};
    alignas(64) std::atomic<uint32_t> call_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int64_t> next_{0};
};

}  // namespace orthrus
