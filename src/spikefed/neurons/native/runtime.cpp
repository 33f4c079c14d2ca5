// Interface number and the borrowed OpenMP pool.
#include "common.h"

namespace {
// Three functions of the OpenMP runtime torch has loaded (libgomp's names; LLVM's runtime has them too).
using GompParallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
using ThreadNumber = int (*)();
GompParallel gomp_parallel = nullptr;
ThreadNumber thread_number = nullptr, thread_count = nullptr;

struct Job {
    spikefed::Body body;
    void *context;
    int64_t count;
    int threads;
};

void piece(void *data) {
    const Job &job = *static_cast<const Job *>(data);
    const int given = thread_count(); // may be fewer than asked for (nested region, thread limit)
    for (int part = thread_number(); part < job.threads; part += given) {
        const int64_t begin = job.count * part / job.threads, end = job.count * (part + 1) / job.threads;
        if (begin < end) job.body(job.context, begin, end);
    }
}
} // namespace

namespace spikefed {
void parallel_for(int64_t count, int threads, Body body, void *context) {
    if (threads > count) threads = static_cast<int>(count);
    if (threads <= 1 || gomp_parallel == nullptr) {
        if (count > 0) body(context, 0, count);
        return;
    }
    Job job{body, context, count, threads};
    gomp_parallel(piece, &job, static_cast<unsigned>(threads), 0);
}
} // namespace spikefed

// Raised with every change to a signature; src/spikefed/native.py holds the same number.
SPIKEFED_API int32_t spikefed_abi() { return 11; }

// Addresses of GOMP_parallel, omp_get_thread_num, omp_get_num_threads of the runtime torch uses; 0 = stay on one thread.
SPIKEFED_API void spikefed_borrow_threads(void *parallel, void *number, void *count) {
    const bool whole = parallel != nullptr && number != nullptr && count != nullptr;
    gomp_parallel = whole ? reinterpret_cast<GompParallel>(parallel) : nullptr;
    thread_number = reinterpret_cast<ThreadNumber>(number);
    thread_count = reinterpret_cast<ThreadNumber>(count);
}
