// Layer norm on the program's own threads, and on its OpenMP: the same bits however the work is cut.
#include <cstdio>
#include <thread>
#include <vector>

#include "lnc_kernels.h"

namespace {

constexpr std::int64_t kFeatures = 1024;

struct Statistics {
    std::vector<float> mu_high, mu_low, rstd;

    explicit Statistics(std::size_t rows) : mu_high(rows), mu_low(rows), rstd(rows) {}
};

}  // namespace

int main() {
    const std::int64_t rows = 1000;
    const auto count = static_cast<std::size_t>(rows * kFeatures);
    std::vector<float> x(count), weight(kFeatures, 2.0f), bias(kFeatures, 1.0f), whole(count), shared(count);
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i * 7919 % 10007) / 10007.0f;

    Statistics kept(rows);
#ifdef LNC_OPENMP
    const lnc_openmp openmp = LNC_OPENMP;
    const lnc_openmp *runtime = &openmp;
#else
    const lnc_openmp *runtime = nullptr;
#endif
    if (lnc_layer_norm_1024_float32_forward_run(x.data(), weight.data(), bias.data(), whole.data(),
                                                kept.mu_high.data(), kept.mu_low.data(), kept.rstd.data(), rows,
                                                runtime) != LNC_SUCCESS)
        return 1;

    // Without a backward to follow, no statistics need be kept.
    const std::int64_t units = lnc_layer_norm_1024_float32_forward_units(rows), threads = 3;
    std::vector<std::thread> team;
    for (std::int64_t t = 0; t < threads; ++t)
        team.emplace_back([&, t] {
            lnc_layer_norm_1024_float32_forward(x.data(), weight.data(), bias.data(), shared.data(), nullptr, nullptr,
                                                nullptr, rows, units * t / threads, units * (t + 1) / threads);
        });
    for (std::thread &thread : team) thread.join();

    std::printf("%s, %s\n", runtime ? "with OpenMP" : "serially", whole == shared ? "same bits" : "different");
    return whole == shared ? 0 : 1;
}
