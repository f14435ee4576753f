"""rms_norm: ... [d], d=64

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    as_float32,
    as_float64,
    elements_to_boundary,
    f32_memory,
    f32x,
    f64_memory,
    f64x,
    fence,
    fits_float32,
    fma,
    is_finite,
    is_given,
    is_moderate,
    load,
    load_partial,
    partial_total,
    read,
    rsqrt,
    signal_fence,
    square,
    store,
    stream,
    total,
    totals,
    where,
    write,
)


def lnc_rms_norm_forward(x, weight, y, rstd, rows, begin, end):
    ordinary_memory = f64_memory(4)
    rstd_value_f32_memory = f32_memory(4)
    rstd_value_memory = f64_memory(4)
    t3_lanes_memory = f32_memory(16)
    streamed = rows >= 49152 and elements_to_boundary(y, 32) == 0
    for from_row in range(begin, end, 4):
        to_row = min(from_row + 4, end)
        for row in range(from_row, to_row):
            x_row = advance(x, row * 64)
            t3_lanes = f32x(0.0, 8)
            for i in range(0, 64, 8):
                x_i = load(x_row, i, 8)
                t3_lanes = fma(x_i, x_i, t3_lanes)
            store(t3_lanes_memory, (row - from_row) * 4, partial_total(t3_lanes, 4))
        # t3 = mean[d](square(x))
        t3 = totals(t3_lanes_memory, 4, 4) / 64.0
        # t4 = t3 + 1e-05
        t4 = t3 + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        rstd_value_f32 = as_float32(rstd_value)
        ordinary = is_finite(t3) & is_moderate(rstd_value)
        store(rstd_value_f32_memory, 0, rstd_value_f32)
        store(rstd_value_memory, 0, rstd_value)
        store(ordinary_memory, 0, where(ordinary, f64x(1.0, 4), f64x(0.0, 4)))
        for row in range(from_row, to_row):
            x_row = advance(x, row * 64)
            y_row = advance(y, row * 64)
            rstd_value_f32 = as_float32(read(rstd_value_f32_memory, row - from_row))
            rstd_value = read(rstd_value_memory, row - from_row)
            ordinary = read(ordinary_memory, row - from_row) > 0.0
            if ordinary:
                if streamed:
                    for i in range(0, 64, 32):
                        x_i = load(x_row, i, 32)
                        signal_fence()
                        weight_i = load(weight, i, 32)
                        # t1 = x * weight
                        t1 = x_i * weight_i
                        # y_i = t1 * rstd_value
                        y_i = t1 * rstd_value_f32
                        stream(y_row, i, y_i, 32)
                else:
                    for i in range(0, 64, 32):
                        x_i = load(x_row, i, 32)
                        signal_fence()
                        weight_i = load(weight, i, 32)
                        # t1 = x * weight
                        t1 = x_i * weight_i
                        # y_i = t1 * rstd_value
                        y_i = t1 * rstd_value_f32
                        store(y_row, i, y_i)
            else:
                t3_wide_lanes = f64x(0.0, 4)
                for i in range(0, 64, 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    t3_wide_lanes = fma(x_wide, x_wide, t3_wide_lanes)
                # t3 = mean[d](square(x))
                t3 = total(t3_wide_lanes) / 64.0
                # t4 = t3 + 1e-05
                t4 = t3 + 1e-05
                # rstd_value = rsqrt(t4)
                rstd_value = rsqrt(t4)
                for i in range(0, 64, 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    weight_wide = as_float64(load(weight, i, 4))
                    # t1 = x * weight
                    t1_wide = x_wide * weight_wide
                    # y_i = t1 * rstd_value
                    y_wide = t1_wide * rstd_value
                    store(y_row, i, y_wide)
            if is_given(rstd):
                write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, dweight_sum, rows, begin, end):
    ordinary_memory = f64_memory(4)
    rstd_value_f32_memory = f32_memory(4)
    rstd_value_memory = f64_memory(4)
    t3_lanes_memory = f32_memory(16)
    t7_f32_memory = f32_memory(4)
    streamed = rows >= 49152 and elements_to_boundary(dx, 32) == 0
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 64)
        for i in range(0, 64, 16):
            store(sums, i, f32x(0.0, 16))
        for from_row in range(block * 64, min(block * 64 + 64, rows), 4):
            to_row = min(from_row + 4, min(block * 64 + 64, rows))
            rstd_value = as_float64(load_partial(rstd, from_row, to_row - from_row, 4))
            # t5 = square(rstd_value)
            t5 = square(rstd_value)
            for row in range(from_row, to_row):
                dy_row = advance(dy, row * 64)
                x_row = advance(x, row * 64)
                t3_lanes = f32x(0.0, 8)
                for i in range(0, 64, 8):
                    dy_i = load(dy_row, i, 8)
                    x_i = load(x_row, i, 8)
                    weight_i = load(weight, i, 8)
                    # t1 = x * weight
                    t1 = x_i * weight_i
                    t3_lanes = fma(dy_i, t1, t3_lanes)
                store(t3_lanes_memory, (row - from_row) * 4, partial_total(t3_lanes, 4))
            # t3 = sum[d](dy * t1)
            t3 = totals(t3_lanes_memory, 4, 4)
            # t4 = t3 * rstd_value
            t4 = t3 * rstd_value
            # t6 = t4 * t5
            t6 = t4 * t5
            # t7 = t6 * (-0.015625)
            t7 = t6 * -0.015625
            t7_f32 = as_float32(t7)
            rstd_value_f32 = as_float32(rstd_value)
            ordinary = is_finite(t3) & fits_float32(t7) & is_moderate(rstd_value)
            store(t7_f32_memory, 0, t7_f32)
            store(rstd_value_f32_memory, 0, rstd_value_f32)
            store(rstd_value_memory, 0, rstd_value)
            store(ordinary_memory, 0, where(ordinary, f64x(1.0, 4), f64x(0.0, 4)))
            for row in range(from_row, to_row):
                x_row = advance(x, row * 64)
                dy_row = advance(dy, row * 64)
                dx_row = advance(dx, row * 64)
                dweight_sum_row = advance(dweight_sum, block * 64)
                t7_f32 = as_float32(read(t7_f32_memory, row - from_row))
                rstd_value_f32 = as_float32(read(rstd_value_f32_memory, row - from_row))
                rstd_value = read(rstd_value_memory, row - from_row)
                ordinary = read(ordinary_memory, row - from_row) > 0.0
                if ordinary:
                    if streamed:
                        for i in range(0, 64, 32):
                            x_i = load(x_row, i, 32)
                            dy_i = load(dy_row, i, 32)
                            signal_fence()
                            weight_i = load(weight, i, 32)
                            # t8 = x * t7
                            t8 = x_i * t7_f32
                            # t9 = dy * rstd_value
                            t9 = dy_i * rstd_value_f32
                            # dx_i = t8 + t9 * weight
                            dx_i = fma(t9, weight_i, t8)
                            stream(dx_row, i, dx_i, 32)
                            dweight_sum_i = load(dweight_sum_row, i, 32)
                            store(dweight_sum_row, i, fma(t9, x_i, dweight_sum_i))
                    else:
                        for i in range(0, 64, 32):
                            x_i = load(x_row, i, 32)
                            dy_i = load(dy_row, i, 32)
                            signal_fence()
                            weight_i = load(weight, i, 32)
                            # t8 = x * t7
                            t8 = x_i * t7_f32
                            # t9 = dy * rstd_value
                            t9 = dy_i * rstd_value_f32
                            # dx_i = t8 + t9 * weight
                            dx_i = fma(t9, weight_i, t8)
                            store(dx_row, i, dx_i)
                            dweight_sum_i = load(dweight_sum_row, i, 32)
                            store(dweight_sum_row, i, fma(t9, x_i, dweight_sum_i))
                else:
                    # t5 = square(rstd_value)
                    t5 = square(rstd_value)
                    t3_wide_lanes = f64x(0.0, 4)
                    for i in range(0, 64, 4):
                        dy_wide = as_float64(load(dy_row, i, 4))
                        x_wide = as_float64(load(x_row, i, 4))
                        weight_wide = as_float64(load(weight, i, 4))
                        # t1 = x * weight
                        t1_wide = x_wide * weight_wide
                        t3_wide_lanes = fma(dy_wide, t1_wide, t3_wide_lanes)
                    # t3 = sum[d](dy * t1)
                    t3 = total(t3_wide_lanes)
                    # t4 = t3 * rstd_value
                    t4 = t3 * rstd_value
                    # t6 = t4 * t5
                    t6 = t4 * t5
                    # t7 = t6 * (-0.015625)
                    t7 = t6 * -0.015625
                    for i in range(0, 64, 4):
                        x_wide = as_float64(load(x_row, i, 4))
                        dy_wide = as_float64(load(dy_row, i, 4))
                        weight_wide = as_float64(load(weight, i, 4))
                        # t8 = x * t7
                        t8_wide = x_wide * t7
                        # t9 = dy * rstd_value
                        t9_wide = dy_wide * rstd_value
                        # dx_i = t8 + t9 * weight
                        dx_wide = fma(t9_wide, weight_wide, t8_wide)
                        store(dx_row, i, dx_wide)
                        dweight_sum_wide_i = as_float64(load(dweight_sum_row, i, 4))
                        store(dweight_sum_row, i, fma(t9_wide, x_wide, dweight_sum_wide_i))
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_2(dweight_sum, dweight, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        dweight_value_lanes = f64x(0.0, 16)
        for block in range((rows + 63) // 64):
            dweight_sum_at = advance(dweight_sum, block * 64)
            dweight_sum_i = as_float64(load(dweight_sum_at, i, 16))
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        store(dweight, i, dweight_value)
    return 0
