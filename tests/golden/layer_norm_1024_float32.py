"""layer_norm: ... [d], d=1024

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    as_float32,
    as_float64,
    elements_to_boundary,
    f32x,
    f64x,
    fence,
    first,
    fits_float32,
    fma,
    is_finite,
    is_given,
    is_moderate,
    load,
    load_partial,
    maximum,
    prefetch,
    read,
    rsqrt,
    signal_fence,
    square,
    store,
    store_partial,
    stream,
    total,
    write,
)


def lnc_layer_norm_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows, begin, end):
    if begin >= end:
        return 0
    last_row = end - 1
    row_next = begin
    x_next = advance(x, row_next * 1024)
    # moments of x_next about the mean of its first 16
    i = 0
    x_next_i = load(x_next, i, 16)
    x_next_first = as_float32(first(x_next_i))
    x_next_pivot = as_float32(x_next_first + total(x_next_i - x_next_first) / 16.0)
    x_next_sums_total = f64x(0.0, 32)
    x_next_squares_total = f64x(0.0, 32)
    for start in range(0, 1024, 512):
        x_next_sums = f32x(0.0, 32)
        x_next_squares = f32x(0.0, 32)
        for i in range(start, min(start + 512, 1024), 32):
            x_next_i = load(x_next, i, 32)
            x_next_offset = x_next_i - x_next_pivot
            x_next_sums += x_next_offset
            x_next_squares = fma(x_next_offset, x_next_offset, x_next_squares)
        x_next_sums_total += as_float64(x_next_sums)
        x_next_squares_total += as_float64(x_next_squares)
    streamed = rows >= 3072
    for row in range(begin, end):
        x_row = advance(x, row * 1024)
        y_row = advance(y, row * 1024)
        x_pivot = x_next_pivot
        x_sums_total = x_next_sums_total
        x_squares_total = x_next_squares_total
        x_shift = total(x_sums_total) / 1024.0
        x_spread = total(x_squares_total) / 1024.0 - x_shift * x_shift
        # mu_high_value = mean_high[d](x)
        mu_high_value = as_float64(as_float32(x_pivot + x_shift))
        # mu_low_value = mean_low[d](x)
        mu_low_value = x_pivot - mu_high_value + x_shift
        # var = variance[d](x)
        var = maximum(x_spread, 0.0)
        # t2 = var + 1e-05
        t2 = var + 1e-05
        # rstd_value = rsqrt(t2)
        rstd_value = rsqrt(t2)
        # t4 = mu_low_value * rstd_value
        t4 = mu_low_value * rstd_value
        mu_high_value_f32 = as_float32(mu_high_value)
        rstd_value_f32 = as_float32(rstd_value)
        t4_f32 = as_float32(t4)
        ordinary = (
            x_shift * x_shift <= 4.0 * x_spread
            and is_finite(x_spread)
            and fits_float32(mu_high_value)
            and is_moderate(rstd_value)
            and fits_float32(t4)
        )
        row_next = min(row + 1, last_row)
        x_next = advance(x, row_next * 1024)
        # moments of x_next about the mean of its first 16
        i = 0
        x_next_i = load(x_next, i, 16)
        x_next_first = as_float32(first(x_next_i))
        x_next_pivot = as_float32(x_next_first + total(x_next_i - x_next_first) / 16.0)
        if ordinary:
            if row < last_row:
                if streamed:
                    x_next_sums_total = f64x(0.0, 32)
                    x_next_squares_total = f64x(0.0, 32)
                    start = min(elements_to_boundary(y_row, 32), 1024)
                    stop = start + (1024 - start) // 32 * 32
                    left = 1024 - stop
                    x_next = advance(x_next, -start)
                    if start > 0:
                        i = 0
                        x_i = load_partial(x_row, i, start, 16)
                        # t1 = x - mu_high_value
                        t1 = x_i - mu_high_value_f32
                        # t5 = t1 * rstd_value - t4
                        t5 = fma(t1, rstd_value_f32, -t4_f32)
                        weight_i = load_partial(weight, i, start, 16)
                        bias_i = load_partial(bias, i, start, 16)
                        # y_i = t5 * weight + bias
                        y_i = fma(t5, weight_i, bias_i)
                        store_partial(y_row, i, start, y_i)
                    for chunk in range(start, start + 1024, 512):
                        x_next_sums = f32x(0.0, 32)
                        x_next_squares = f32x(0.0, 32)
                        for i in range(chunk, min(chunk + 512, stop), 32):
                            prefetch(x_next, i + 512, 32, 1)
                            x_i = load(x_row, i, 32)
                            signal_fence()
                            # t1 = x - mu_high_value
                            t1 = x_i - mu_high_value_f32
                            # t5 = t1 * rstd_value - t4
                            t5 = fma(t1, rstd_value_f32, -t4_f32)
                            weight_i = load(weight, i, 32)
                            bias_i = load(bias, i, 32)
                            # y_i = t5 * weight + bias
                            y_i = fma(t5, weight_i, bias_i)
                            stream(y_row, i, y_i, 32)
                            x_next_i = load(x_next, i, 32)
                            x_next_offset = x_next_i - x_next_pivot
                            x_next_sums += x_next_offset
                            x_next_squares = fma(x_next_offset, x_next_offset, x_next_squares)
                        if chunk + 512 >= start + 1024:
                            for i in range(stop, start + 1024, 32):
                                x_next_i = load(x_next, i, 32)
                                x_next_offset = x_next_i - x_next_pivot
                                x_next_sums += x_next_offset
                                x_next_squares = fma(x_next_offset, x_next_offset, x_next_squares)
                        x_next_sums_total += as_float64(x_next_sums)
                        x_next_squares_total += as_float64(x_next_squares)
                    if left > 0:
                        i = stop
                        x_i = load_partial(x_row, i, left, 32)
                        # t1 = x - mu_high_value
                        t1 = x_i - mu_high_value_f32
                        # t5 = t1 * rstd_value - t4
                        t5 = fma(t1, rstd_value_f32, -t4_f32)
                        weight_i = load_partial(weight, i, left, 32)
                        bias_i = load_partial(bias, i, left, 32)
                        # y_i = t5 * weight + bias
                        y_i = fma(t5, weight_i, bias_i)
                        store_partial(y_row, i, left, y_i)
                else:
                    x_next_sums_total = f64x(0.0, 32)
                    x_next_squares_total = f64x(0.0, 32)
                    for start in range(0, 1024, 512):
                        x_next_sums = f32x(0.0, 32)
                        x_next_squares = f32x(0.0, 32)
                        for i in range(start, min(start + 512, 1024), 32):
                            x_i = load(x_row, i, 32)
                            signal_fence()
                            # t1 = x - mu_high_value
                            t1 = x_i - mu_high_value_f32
                            # t5 = t1 * rstd_value - t4
                            t5 = fma(t1, rstd_value_f32, -t4_f32)
                            weight_i = load(weight, i, 32)
                            bias_i = load(bias, i, 32)
                            # y_i = t5 * weight + bias
                            y_i = fma(t5, weight_i, bias_i)
                            store(y_row, i, y_i)
                            x_next_i = load(x_next, i, 32)
                            x_next_offset = x_next_i - x_next_pivot
                            x_next_sums += x_next_offset
                            x_next_squares = fma(x_next_offset, x_next_offset, x_next_squares)
                        x_next_sums_total += as_float64(x_next_sums)
                        x_next_squares_total += as_float64(x_next_squares)
            else:
                for i in range(0, 1024, 32):
                    x_i = load(x_row, i, 32)
                    signal_fence()
                    # t1 = x - mu_high_value
                    t1 = x_i - mu_high_value_f32
                    # t5 = t1 * rstd_value - t4
                    t5 = fma(t1, rstd_value_f32, -t4_f32)
                    weight_i = load(weight, i, 32)
                    bias_i = load(bias, i, 32)
                    # y_i = t5 * weight + bias
                    y_i = fma(t5, weight_i, bias_i)
                    store(y_row, i, y_i)
        else:
            # moments of x about its mean
            i = 0
            x_wide = as_float64(load(x_row, i, 16))
            x_wide_first = as_float64(first(x_wide))
            x_wide_offsets_total = f64x(0.0, 4)
            for start in range(0, 1024, 64):
                x_wide_offsets = f64x(0.0, 4)
                for i in range(start, min(start + 64, 1024), 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    x_wide_offsets += x_wide - x_wide_first
                x_wide_offsets_total += as_float64(x_wide_offsets)
            x_wide_pivot = x_wide_first + total(x_wide_offsets_total) / 1024.0
            x_wide_sums_total = f64x(0.0, 4)
            x_wide_squares_total = f64x(0.0, 4)
            for start in range(0, 1024, 64):
                x_wide_sums = f64x(0.0, 4)
                x_wide_squares = f64x(0.0, 4)
                for i in range(start, min(start + 64, 1024), 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    x_wide_offset = x_wide - x_wide_pivot
                    x_wide_sums += x_wide_offset
                    x_wide_squares = fma(x_wide_offset, x_wide_offset, x_wide_squares)
                x_wide_sums_total += as_float64(x_wide_sums)
                x_wide_squares_total += as_float64(x_wide_squares)
            x_wide_shift = total(x_wide_sums_total) / 1024.0
            x_wide_spread = total(x_wide_squares_total) / 1024.0 - x_wide_shift * x_wide_shift
            # mu_high_value = mean_high[d](x)
            mu_high_value = as_float64(as_float32(x_wide_pivot + x_wide_shift))
            # mu_low_value = mean_low[d](x)
            mu_low_value = x_wide_pivot - mu_high_value + x_wide_shift
            # var = variance[d](x)
            var = maximum(x_wide_spread, 0.0)
            # t2 = var + 1e-05
            t2 = var + 1e-05
            # rstd_value = rsqrt(t2)
            rstd_value = rsqrt(t2)
            # t4 = mu_low_value * rstd_value
            t4 = mu_low_value * rstd_value
            for i in range(0, 1024, 4):
                x_wide = as_float64(load(x_row, i, 4))
                # t1 = x - mu_high_value
                t1_wide = x_wide - mu_high_value
                # t5 = t1 * rstd_value - t4
                t5_wide = fma(t1_wide, rstd_value, -t4)
                weight_wide = as_float64(load(weight, i, 4))
                bias_wide = as_float64(load(bias, i, 4))
                # y_i = t5 * weight + bias
                y_wide = fma(t5_wide, weight_wide, bias_wide)
                store(y_row, i, y_wide)
            if row < last_row:
                x_next_sums_total = f64x(0.0, 32)
                x_next_squares_total = f64x(0.0, 32)
                for start in range(0, 1024, 512):
                    x_next_sums = f32x(0.0, 32)
                    x_next_squares = f32x(0.0, 32)
                    for i in range(start, min(start + 512, 1024), 32):
                        x_next_i = load(x_next, i, 32)
                        x_next_offset = x_next_i - x_next_pivot
                        x_next_sums += x_next_offset
                        x_next_squares = fma(x_next_offset, x_next_offset, x_next_squares)
                    x_next_sums_total += as_float64(x_next_sums)
                    x_next_squares_total += as_float64(x_next_squares)
        if is_given(mu_high):
            write(mu_high, row, mu_high_value)
        if is_given(mu_low):
            write(mu_low, row, mu_low_value)
        if is_given(rstd):
            write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_layer_norm_backward(
    x,  # float32
    weight,  # float32
    dy,  # float32
    mu_high,  # float32
    mu_low,  # float32
    rstd,  # float32
    dx,  # float32
    dweight_sum,  # float32
    dbias_sum,  # float32
    rows,
    begin,
    end,
):
    if begin >= end:
        return 0
    last_row = min(end * 64, rows) - 1
    row_next = begin * 64
    dy_next = advance(dy, row_next * 1024)
    weight_next = weight
    x_next = advance(x, row_next * 1024)
    mu_high_value_next = read(mu_high, row_next)
    mu_high_value_next_f32 = as_float32(mu_high_value_next)
    t2_next_lanes_total = f64x(0.0, 32)
    t8_next_lanes_total = f64x(0.0, 32)
    for start in range(0, 1024, 512):
        t2_next_lanes = f32x(0.0, 32)
        t8_next_lanes = f32x(0.0, 32)
        for i in range(start, min(start + 512, 1024), 32):
            dy_next_i = load(dy_next, i, 32)
            weight_next_i = load(weight_next, i, 32)
            # t1_next = dy_next * weight_next
            t1_next = dy_next_i * weight_next_i
            x_next_i = load(x_next, i, 32)
            # t6_next = x_next - mu_high_value_next
            t6_next = x_next_i - mu_high_value_next_f32
            t2_next_lanes = t2_next_lanes + t1_next
            t8_next_lanes = fma(t1_next, t6_next, t8_next_lanes)
        t2_next_lanes_total += as_float64(t2_next_lanes)
        t8_next_lanes_total += as_float64(t8_next_lanes)
    streamed = rows >= 3072
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 1024)
        for i in range(0, 1024, 16):
            store(sums, i, f32x(0.0, 16))
        sums = advance(dbias_sum, block * 1024)
        for i in range(0, 1024, 16):
            store(sums, i, f32x(0.0, 16))
        for row in range(block * 64, min(block * 64 + 64, rows)):
            dy_row = advance(dy, row * 1024)
            x_row = advance(x, row * 1024)
            dx_row = advance(dx, row * 1024)
            dweight_sum_row = advance(dweight_sum, block * 1024)
            dbias_sum_row = advance(dbias_sum, block * 1024)
            rstd_value = read(rstd, row)
            mu_low_value = read(mu_low, row)
            mu_high_value = read(mu_high, row)
            # t12 = square(rstd_value)
            t12 = square(rstd_value)
            # t19 = mu_low_value * rstd_value
            t19 = mu_low_value * rstd_value
            mu_high_value_f32 = as_float32(mu_high_value)
            t2_lanes_total = t2_next_lanes_total
            t8_lanes_total = t8_next_lanes_total
            # t2 = sum[d](t1)
            t2 = total(t2_lanes_total)
            # t8 = sum[d](t1 * t6)
            t8 = total(t8_lanes_total)
            # t3 = t2 * 0.0009765625
            t3 = t2 * 0.0009765625
            # t9 = t2 * mu_low_value
            t9 = t2 * mu_low_value
            # t10 = t8 - t9
            t10 = t8 - t9
            # t11 = t10 * rstd_value
            t11 = t10 * rstd_value
            # t13 = t11 * t12
            t13 = t11 * t12
            # t14 = t13 * (-0.0009765625)
            t14 = t13 * -0.0009765625
            # t15 = mu_low_value * t14
            t15 = mu_low_value * t14
            t3_f32 = as_float32(t3)
            rstd_value_f32 = as_float32(rstd_value)
            t15_f32 = as_float32(t15)
            t14_f32 = as_float32(t14)
            t19_f32 = as_float32(t19)
            ordinary = (
                fits_float32(mu_high_value)
                and is_finite(t2)
                and is_finite(t8)
                and fits_float32(t3)
                and is_moderate(rstd_value)
                and fits_float32(t15)
                and fits_float32(t14)
                and fits_float32(t19)
            )
            row_next = min(row + 1, last_row)
            dy_next = advance(dy, row_next * 1024)
            weight_next = weight
            x_next = advance(x, row_next * 1024)
            mu_high_value_next = read(mu_high, row_next)
            mu_high_value_next_f32 = as_float32(mu_high_value_next)
            if ordinary:
                if row < last_row:
                    if streamed:
                        t2_next_lanes_total = f64x(0.0, 32)
                        t8_next_lanes_total = f64x(0.0, 32)
                        start = min(elements_to_boundary(dx_row, 32), 1024)
                        stop = start + (1024 - start) // 32 * 32
                        left = 1024 - stop
                        dy_next = advance(dy_next, -start)
                        weight_next = advance(weight_next, -start)
                        x_next = advance(x_next, -start)
                        if start > 0:
                            i = 0
                            dy_i = load_partial(dy_row, i, start, 16)
                            weight_i = load_partial(weight, i, start, 16)
                            # t1 = dy * weight
                            t1 = dy_i * weight_i
                            # t4 = t1 - t3
                            t4 = t1 - t3_f32
                            x_i = load_partial(x_row, i, start, 16)
                            # t6 = x - mu_high_value
                            t6 = x_i - mu_high_value_f32
                            # t16 = t4 * rstd_value - t15
                            t16 = fma(t4, rstd_value_f32, -t15_f32)
                            # dx_i = t16 + t6 * t14
                            dx_i = fma(t6, t14_f32, t16)
                            # t20 = t6 * rstd_value - t19
                            t20 = fma(t6, rstd_value_f32, -t19_f32)
                            store_partial(dx_row, i, start, dx_i)
                            dweight_sum_i = load_partial(dweight_sum_row, i, start, 16)
                            store_partial(dweight_sum_row, i, start, fma(t20, dy_i, dweight_sum_i))
                            dbias_sum_i = load_partial(dbias_sum_row, i, start, 16)
                            store_partial(dbias_sum_row, i, start, dbias_sum_i + dy_i)
                        for chunk in range(start, start + 1024, 512):
                            t2_next_lanes = f32x(0.0, 32)
                            t8_next_lanes = f32x(0.0, 32)
                            for i in range(chunk, min(chunk + 512, stop), 32):
                                prefetch(dy_next, i + 512, 32, 1)
                                prefetch(x_next, i + 512, 32, 1)
                                dy_i = load(dy_row, i, 32)
                                weight_i = load(weight, i, 32)
                                # t1 = dy * weight
                                t1 = dy_i * weight_i
                                # t4 = t1 - t3
                                t4 = t1 - t3_f32
                                x_i = load(x_row, i, 32)
                                # t6 = x - mu_high_value
                                t6 = x_i - mu_high_value_f32
                                # t16 = t4 * rstd_value - t15
                                t16 = fma(t4, rstd_value_f32, -t15_f32)
                                # dx_i = t16 + t6 * t14
                                dx_i = fma(t6, t14_f32, t16)
                                # t20 = t6 * rstd_value - t19
                                t20 = fma(t6, rstd_value_f32, -t19_f32)
                                stream(dx_row, i, dx_i, 32)
                                dweight_sum_i = load(dweight_sum_row, i, 32)
                                store(dweight_sum_row, i, fma(t20, dy_i, dweight_sum_i))
                                dbias_sum_i = load(dbias_sum_row, i, 32)
                                store(dbias_sum_row, i, dbias_sum_i + dy_i)
                                dy_next_i = load(dy_next, i, 32)
                                weight_next_i = load(weight_next, i, 32)
                                # t1_next = dy_next * weight_next
                                t1_next = dy_next_i * weight_next_i
                                x_next_i = load(x_next, i, 32)
                                # t6_next = x_next - mu_high_value_next
                                t6_next = x_next_i - mu_high_value_next_f32
                                t2_next_lanes = t2_next_lanes + t1_next
                                t8_next_lanes = fma(t1_next, t6_next, t8_next_lanes)
                            if chunk + 512 >= start + 1024:
                                for i in range(stop, start + 1024, 32):
                                    dy_next_i = load(dy_next, i, 32)
                                    weight_next_i = load(weight_next, i, 32)
                                    # t1_next = dy_next * weight_next
                                    t1_next = dy_next_i * weight_next_i
                                    x_next_i = load(x_next, i, 32)
                                    # t6_next = x_next - mu_high_value_next
                                    t6_next = x_next_i - mu_high_value_next_f32
                                    t2_next_lanes = t2_next_lanes + t1_next
                                    t8_next_lanes = fma(t1_next, t6_next, t8_next_lanes)
                            t2_next_lanes_total += as_float64(t2_next_lanes)
                            t8_next_lanes_total += as_float64(t8_next_lanes)
                        if left > 0:
                            i = stop
                            dy_i = load_partial(dy_row, i, left, 32)
                            weight_i = load_partial(weight, i, left, 32)
                            # t1 = dy * weight
                            t1 = dy_i * weight_i
                            # t4 = t1 - t3
                            t4 = t1 - t3_f32
                            x_i = load_partial(x_row, i, left, 32)
                            # t6 = x - mu_high_value
                            t6 = x_i - mu_high_value_f32
                            # t16 = t4 * rstd_value - t15
                            t16 = fma(t4, rstd_value_f32, -t15_f32)
                            # dx_i = t16 + t6 * t14
                            dx_i = fma(t6, t14_f32, t16)
                            # t20 = t6 * rstd_value - t19
                            t20 = fma(t6, rstd_value_f32, -t19_f32)
                            store_partial(dx_row, i, left, dx_i)
                            dweight_sum_i = load_partial(dweight_sum_row, i, left, 32)
                            store_partial(dweight_sum_row, i, left, fma(t20, dy_i, dweight_sum_i))
                            dbias_sum_i = load_partial(dbias_sum_row, i, left, 32)
                            store_partial(dbias_sum_row, i, left, dbias_sum_i + dy_i)
                    else:
                        t2_next_lanes_total = f64x(0.0, 32)
                        t8_next_lanes_total = f64x(0.0, 32)
                        for start in range(0, 1024, 512):
                            t2_next_lanes = f32x(0.0, 32)
                            t8_next_lanes = f32x(0.0, 32)
                            for i in range(start, min(start + 512, 1024), 32):
                                dy_i = load(dy_row, i, 32)
                                weight_i = load(weight, i, 32)
                                # t1 = dy * weight
                                t1 = dy_i * weight_i
                                # t4 = t1 - t3
                                t4 = t1 - t3_f32
                                x_i = load(x_row, i, 32)
                                # t6 = x - mu_high_value
                                t6 = x_i - mu_high_value_f32
                                # t16 = t4 * rstd_value - t15
                                t16 = fma(t4, rstd_value_f32, -t15_f32)
                                # dx_i = t16 + t6 * t14
                                dx_i = fma(t6, t14_f32, t16)
                                # t20 = t6 * rstd_value - t19
                                t20 = fma(t6, rstd_value_f32, -t19_f32)
                                store(dx_row, i, dx_i)
                                dweight_sum_i = load(dweight_sum_row, i, 32)
                                store(dweight_sum_row, i, fma(t20, dy_i, dweight_sum_i))
                                dbias_sum_i = load(dbias_sum_row, i, 32)
                                store(dbias_sum_row, i, dbias_sum_i + dy_i)
                                dy_next_i = load(dy_next, i, 32)
                                weight_next_i = load(weight_next, i, 32)
                                # t1_next = dy_next * weight_next
                                t1_next = dy_next_i * weight_next_i
                                x_next_i = load(x_next, i, 32)
                                # t6_next = x_next - mu_high_value_next
                                t6_next = x_next_i - mu_high_value_next_f32
                                t2_next_lanes = t2_next_lanes + t1_next
                                t8_next_lanes = fma(t1_next, t6_next, t8_next_lanes)
                            t2_next_lanes_total += as_float64(t2_next_lanes)
                            t8_next_lanes_total += as_float64(t8_next_lanes)
                else:
                    for i in range(0, 1024, 32):
                        dy_i = load(dy_row, i, 32)
                        x_i = load(x_row, i, 32)
                        signal_fence()
                        weight_i = load(weight, i, 32)
                        # t1 = dy * weight
                        t1 = dy_i * weight_i
                        # t4 = t1 - t3
                        t4 = t1 - t3_f32
                        # t6 = x - mu_high_value
                        t6 = x_i - mu_high_value_f32
                        # t16 = t4 * rstd_value - t15
                        t16 = fma(t4, rstd_value_f32, -t15_f32)
                        # dx_i = t16 + t6 * t14
                        dx_i = fma(t6, t14_f32, t16)
                        # t20 = t6 * rstd_value - t19
                        t20 = fma(t6, rstd_value_f32, -t19_f32)
                        store(dx_row, i, dx_i)
                        dweight_sum_i = load(dweight_sum_row, i, 32)
                        store(dweight_sum_row, i, fma(t20, dy_i, dweight_sum_i))
                        dbias_sum_i = load(dbias_sum_row, i, 32)
                        store(dbias_sum_row, i, dbias_sum_i + dy_i)
            else:
                # t12 = square(rstd_value)
                t12 = square(rstd_value)
                # t19 = mu_low_value * rstd_value
                t19 = mu_low_value * rstd_value
                t2_wide_lanes_total = f64x(0.0, 4)
                t8_wide_lanes_total = f64x(0.0, 4)
                for start in range(0, 1024, 64):
                    t2_wide_lanes = f64x(0.0, 4)
                    t8_wide_lanes = f64x(0.0, 4)
                    for i in range(start, min(start + 64, 1024), 4):
                        dy_wide = as_float64(load(dy_row, i, 4))
                        weight_wide = as_float64(load(weight, i, 4))
                        # t1 = dy * weight
                        t1_wide = dy_wide * weight_wide
                        x_wide = as_float64(load(x_row, i, 4))
                        # t6 = x - mu_high_value
                        t6_wide = x_wide - mu_high_value
                        t2_wide_lanes = t2_wide_lanes + t1_wide
                        t8_wide_lanes = fma(t1_wide, t6_wide, t8_wide_lanes)
                    t2_wide_lanes_total += as_float64(t2_wide_lanes)
                    t8_wide_lanes_total += as_float64(t8_wide_lanes)
                # t2 = sum[d](t1)
                t2 = total(t2_wide_lanes_total)
                # t8 = sum[d](t1 * t6)
                t8 = total(t8_wide_lanes_total)
                # t3 = t2 * 0.0009765625
                t3 = t2 * 0.0009765625
                # t9 = t2 * mu_low_value
                t9 = t2 * mu_low_value
                # t10 = t8 - t9
                t10 = t8 - t9
                # t11 = t10 * rstd_value
                t11 = t10 * rstd_value
                # t13 = t11 * t12
                t13 = t11 * t12
                # t14 = t13 * (-0.0009765625)
                t14 = t13 * -0.0009765625
                # t15 = mu_low_value * t14
                t15 = mu_low_value * t14
                for i in range(0, 1024, 4):
                    dy_wide = as_float64(load(dy_row, i, 4))
                    weight_wide = as_float64(load(weight, i, 4))
                    # t1 = dy * weight
                    t1_wide = dy_wide * weight_wide
                    # t4 = t1 - t3
                    t4_wide = t1_wide - t3
                    x_wide = as_float64(load(x_row, i, 4))
                    # t6 = x - mu_high_value
                    t6_wide = x_wide - mu_high_value
                    # t16 = t4 * rstd_value - t15
                    t16_wide = fma(t4_wide, rstd_value, -t15)
                    # dx_i = t16 + t6 * t14
                    dx_wide = fma(t6_wide, t14, t16_wide)
                    # t20 = t6 * rstd_value - t19
                    t20_wide = fma(t6_wide, rstd_value, -t19)
                    store(dx_row, i, dx_wide)
                    dweight_sum_wide_i = as_float64(load(dweight_sum_row, i, 4))
                    store(dweight_sum_row, i, fma(t20_wide, dy_wide, dweight_sum_wide_i))
                    dbias_sum_wide_i = as_float64(load(dbias_sum_row, i, 4))
                    store(dbias_sum_row, i, dbias_sum_wide_i + dy_wide)
                if row < last_row:
                    t2_next_lanes_total = f64x(0.0, 32)
                    t8_next_lanes_total = f64x(0.0, 32)
                    for start in range(0, 1024, 512):
                        t2_next_lanes = f32x(0.0, 32)
                        t8_next_lanes = f32x(0.0, 32)
                        for i in range(start, min(start + 512, 1024), 32):
                            dy_next_i = load(dy_next, i, 32)
                            weight_next_i = load(weight_next, i, 32)
                            # t1_next = dy_next * weight_next
                            t1_next = dy_next_i * weight_next_i
                            x_next_i = load(x_next, i, 32)
                            # t6_next = x_next - mu_high_value_next
                            t6_next = x_next_i - mu_high_value_next_f32
                            t2_next_lanes = t2_next_lanes + t1_next
                            t8_next_lanes = fma(t1_next, t6_next, t8_next_lanes)
                        t2_next_lanes_total += as_float64(t2_next_lanes)
                        t8_next_lanes_total += as_float64(t8_next_lanes)
    if streamed:
        fence()
    return 0


def lnc_layer_norm_backward_2(dweight_sum, dbias_sum, dweight, dbias, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        dweight_value_lanes = f64x(0.0, 16)
        dbias_value_lanes = f64x(0.0, 16)
        for block in range((rows + 63) // 64):
            dweight_sum_at = advance(dweight_sum, block * 1024)
            dbias_sum_at = advance(dbias_sum, block * 1024)
            dweight_sum_i = as_float64(load(dweight_sum_at, i, 16))
            dbias_sum_i = as_float64(load(dbias_sum_at, i, 16))
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
            dbias_value_lanes = dbias_value_lanes + dbias_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        # dbias_value = sum[..._blocks](dbias_sum)
        dbias_value = dbias_value_lanes
        store(dweight, i, dweight_value)
        store(dbias, i, dbias_value)
    return 0
