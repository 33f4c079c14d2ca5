// Shared by every native source: export macro, fixed-width types, the borrowed thread pool.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define SPIKEFED_API extern "C" __declspec(dllexport)
#else
#define SPIKEFED_API extern "C" __attribute__((visibility("default")))
#endif

namespace spikefed {

// Calls body(begin, end) on disjoint pieces of [0, count). The cut depends on `threads` and `count` only, never on timing.
// With threads <= 1, or without a borrowed pool, everything runs on the caller.
using Body = void (*)(void *context, int64_t begin, int64_t end);
void parallel_for(int64_t count, int threads, Body body, void *context);

// Lambda form.
template <class F> void parallel(int64_t count, int threads, const F &f) {
    parallel_for(
        count, threads, [](void *c, int64_t b, int64_t e) { (*static_cast<const F *>(c))(b, e); },
        const_cast<void *>(static_cast<const void *>(&f)));
}

} // namespace spikefed
