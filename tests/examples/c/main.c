/* Layer norm, forward and backward, by kernels that were built with
 *
 *     lncompile build layer_norm --shape 4096x1024 --target cpu:x86-64-v2,cpu:x86-64-v3 -o dist
 *     cc main.c $(pkg-config --cflags --libs dist/lnc_kernels.pc) -lm -Wl,-rpath,dist
 *
 * The rows are done in two pieces, as two threads would do them. Ends with 0 if the results are those of a
 * computation in double. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "layer_norm_1024_float32.h"

#define ROWS 37
#define FEATURES 1024

static float *floats(int64_t count) {
    float *array = malloc((size_t)count * sizeof *array);
    if (!array)
        exit(2);
    return array;
}

static float *random_floats(int64_t count) {
    static uint32_t state = 1;
    float *array = floats(count);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        array[i] = (float)(state >> 8) / (1 << 23) - 1.0f;
    }
    return array;
}

/* The largest difference of one row of y and dx from what they should be. */
static double row_error(const float *x, const float *weight, const float *bias, const float *dy, const float *y,
                        const float *dx) {
    double mean = 0, variance = 0, sum = 0, product = 0, error = 0;
    for (int i = 0; i < FEATURES; i++)
        mean += x[i] / (double)FEATURES;
    for (int i = 0; i < FEATURES; i++)
        variance += (x[i] - mean) * (x[i] - mean) / FEATURES;
    double scale = 1 / sqrt(variance + 1e-5);
    for (int i = 0; i < FEATURES; i++) {
        sum += dy[i] * weight[i] / (double)FEATURES;
        product += dy[i] * weight[i] * (x[i] - mean) * scale / FEATURES;
    }
    for (int i = 0; i < FEATURES; i++) {
        double normed = (x[i] - mean) * scale;
        error = fmax(error, fabs(y[i] - (normed * weight[i] + bias[i])));
        error = fmax(error, fabs(dx[i] - scale * (dy[i] * weight[i] - sum - normed * product)));
    }
    return error;
}

int main(void) {
    int64_t rows = ROWS, half = ROWS / 2, count = (int64_t)ROWS * FEATURES;
    float *x = random_floats(count), *dy = random_floats(count);
    float *weight = random_floats(FEATURES), *bias = random_floats(FEATURES);
    float *y = floats(count), *dx = floats(count), *dweight = floats(FEATURES), *dbias = floats(FEATURES);
    float *mu_high = floats(rows), *mu_low = floats(rows), *rstd = floats(rows);

    int32_t status = 0;
    status |= lnc_layer_norm_1024_float32_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows, 0, half);
    status |= lnc_layer_norm_1024_float32_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows, half, rows);

    float *dweight_sum = floats(lnc_layer_norm_1024_float32_backward_dweight_sum_elements(rows));
    float *dbias_sum = floats(lnc_layer_norm_1024_float32_backward_dbias_sum_elements(rows));
    status |= lnc_layer_norm_1024_float32_backward_run(x, weight, bias, dy, mu_high, mu_low, rstd, dx, dweight,
                                                       dbias, dweight_sum, dbias_sum, rows, NULL);
    if (status != LNC_SUCCESS) {
        fprintf(stderr, "status %d\n", status);
        return 1;
    }
    double error = 0;
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * FEATURES;
        error = fmax(error, row_error(x + at, weight, bias, dy + at, y + at, dx + at));
    }
    double total = 0;
    for (int64_t row = 0; row < rows; row++)
        total += dy[row * FEATURES];
    error = fmax(error, fabs(dbias[0] - total));
    printf("largest error %.1e\n", error);
    return error < 1e-5 ? 0 : 1;
}
