"""rms_norm: ... [d], d=1024

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
    fits_float32,
    fma,
    is_finite,
    is_given,
    is_moderate,
    load,
    load_partial,
    prefetch,
    read,
    rsqrt,
    square,
    store,
    store_partial,
    stream,
    total,
    write,
)


def lnc_rms_norm_forward(x, weight, y, rstd, rows, begin, end):
    keep = is_given(rstd)
    streamed = rows >= 3072
    for row in range(begin, end):
        x_row = advance(x, row * 1024)
        y_row = advance(y, row * 1024)
        t2_lanes_total = f64x(0.0, 32)
        for start in range(0, 1024, 512):
            t2_lanes = f32x(0.0, 32)
            for i in range(start, min(start + 512, 1024), 32):
                x_i = load(x_row, i, 32)
                # t1 = square(x)
                t1 = square(x_i)
                t2_lanes = t2_lanes + t1
            t2_lanes_total += as_float64(t2_lanes)
        # t2 = mean[d](t1)
        t2 = total(t2_lanes_total) / 1024.0
        # t3 = t2 + 1e-05
        t3 = t2 + 1e-05
        # rstd_value = rsqrt(t3)
        rstd_value = rsqrt(t3)
        rstd_value_f32 = as_float32(rstd_value)
        ordinary = is_finite(t2) and is_moderate(rstd_value)
        if ordinary:
            if streamed:
                start = min(elements_to_boundary(y_row, 32), 1024)
                stop = start + (1024 - start) // 16 * 16
                left = 1024 - stop
                if start > 0:
                    i = 0
                    x_i = load_partial(x_row, i, start, 16)
                    # t4 = x * rstd_value
                    t4 = x_i * rstd_value_f32
                    weight_i = load_partial(weight, i, start, 16)
                    # y_i = t4 * weight
                    y_i = t4 * weight_i
                    store_partial(y_row, i, start, y_i)
                for i in range(start, stop, 16):
                    prefetch(x_row, i + 1024, 16)
                    x_i = load(x_row, i, 16)
                    # t4 = x * rstd_value
                    t4 = x_i * rstd_value_f32
                    weight_i = load(weight, i, 16)
                    # y_i = t4 * weight
                    y_i = t4 * weight_i
                    stream(y_row, i, y_i, 32)
                if left > 0:
                    i = stop
                    x_i = load_partial(x_row, i, left, 16)
                    # t4 = x * rstd_value
                    t4 = x_i * rstd_value_f32
                    weight_i = load_partial(weight, i, left, 16)
                    # y_i = t4 * weight
                    y_i = t4 * weight_i
                    store_partial(y_row, i, left, y_i)
            else:
                for i in range(0, 1024, 16):
                    x_i = load(x_row, i, 16)
                    # t4 = x * rstd_value
                    t4 = x_i * rstd_value_f32
                    weight_i = load(weight, i, 16)
                    # y_i = t4 * weight
                    y_i = t4 * weight_i
                    store(y_row, i, y_i)
        else:
            t2_wide_lanes_total = f64x(0.0, 4)
            for start in range(0, 1024, 64):
                t2_wide_lanes = f64x(0.0, 4)
                for i in range(start, min(start + 64, 1024), 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    # t1 = square(x)
                    t1_wide = square(x_wide)
                    t2_wide_lanes = t2_wide_lanes + t1_wide
                t2_wide_lanes_total += as_float64(t2_wide_lanes)
            # t2 = mean[d](t1)
            t2 = total(t2_wide_lanes_total) / 1024.0
            # t3 = t2 + 1e-05
            t3 = t2 + 1e-05
            # rstd_value = rsqrt(t3)
            rstd_value = rsqrt(t3)
            for i in range(0, 1024, 4):
                x_wide = as_float64(load(x_row, i, 4))
                # t4 = x * rstd_value
                t4_wide = x_wide * rstd_value
                weight_wide = as_float64(load(weight, i, 4))
                # y_i = t4 * weight
                y_wide = t4_wide * weight_wide
                store(y_row, i, y_wide)
        if keep:
            write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, partial, rows, begin, end):
    streamed = rows >= 3072
    for block in range(begin, end):
        sums = advance(partial, block * 1024)
        for i in range(0, 1024, 16):
            store(sums, i, f32x(0.0, 16))
        for row in range(block * 64, min(block * 64 + 64, rows)):
            x_row = advance(x, row * 1024)
            dy_row = advance(dy, row * 1024)
            dx_row = advance(dx, row * 1024)
            rstd_value = read(rstd, row)
            # t6 = square(rstd_value)
            t6 = square(rstd_value)
            t4_lanes_total = f64x(0.0, 32)
            for start in range(0, 1024, 512):
                t4_lanes = f32x(0.0, 32)
                for i in range(start, min(start + 512, 1024), 32):
                    dy_i = load(dy_row, i, 32)
                    weight_i = load(weight, i, 32)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    x_i = load(x_row, i, 32)
                    t4_lanes = fma(t1, x_i, t4_lanes)
                t4_lanes_total += as_float64(t4_lanes)
            # t4 = sum[d](t1 * x)
            t4 = total(t4_lanes_total)
            # t5 = t4 * rstd_value
            t5 = t4 * rstd_value
            # t7 = t5 * t6
            t7 = t5 * t6
            # t8 = t7 * (-0.0009765625)
            t8 = t7 * -0.0009765625
            rstd_value_f32 = as_float32(rstd_value)
            t8_f32 = as_float32(t8)
            ordinary = is_finite(t4) and is_moderate(rstd_value) and fits_float32(t8)
            if ordinary:
                if streamed:
                    start = min(elements_to_boundary(dx_row, 32), 1024)
                    stop = start + (1024 - start) // 16 * 16
                    left = 1024 - stop
                    if start > 0:
                        i = 0
                        dy_i = load_partial(dy_row, i, start, 16)
                        weight_i = load_partial(weight, i, start, 16)
                        # t1 = dy * weight
                        t1 = dy_i * weight_i
                        # t2 = t1 * rstd_value
                        t2 = t1 * rstd_value_f32
                        x_i = load_partial(x_row, i, start, 16)
                        # dx_i = t2 + x * t8
                        dx_i = fma(x_i, t8_f32, t2)
                        # t10 = x * rstd_value
                        t10 = x_i * rstd_value_f32
                        store_partial(dx_row, i, start, dx_i)
                        dweight_sum = load_partial(sums, i, start, 16)
                        store_partial(sums, i, start, fma(dy_i, t10, dweight_sum))
                    for i in range(start, stop, 16):
                        prefetch(dy_row, i + 1024, 16)
                        prefetch(x_row, i + 1024, 16)
                        dy_i = load(dy_row, i, 16)
                        weight_i = load(weight, i, 16)
                        # t1 = dy * weight
                        t1 = dy_i * weight_i
                        # t2 = t1 * rstd_value
                        t2 = t1 * rstd_value_f32
                        x_i = load(x_row, i, 16)
                        # dx_i = t2 + x * t8
                        dx_i = fma(x_i, t8_f32, t2)
                        # t10 = x * rstd_value
                        t10 = x_i * rstd_value_f32
                        stream(dx_row, i, dx_i, 32)
                        dweight_sum = load(sums, i, 16)
                        store(sums, i, fma(dy_i, t10, dweight_sum))
                    if left > 0:
                        i = stop
                        dy_i = load_partial(dy_row, i, left, 16)
                        weight_i = load_partial(weight, i, left, 16)
                        # t1 = dy * weight
                        t1 = dy_i * weight_i
                        # t2 = t1 * rstd_value
                        t2 = t1 * rstd_value_f32
                        x_i = load_partial(x_row, i, left, 16)
                        # dx_i = t2 + x * t8
                        dx_i = fma(x_i, t8_f32, t2)
                        # t10 = x * rstd_value
                        t10 = x_i * rstd_value_f32
                        store_partial(dx_row, i, left, dx_i)
                        dweight_sum = load_partial(sums, i, left, 16)
                        store_partial(sums, i, left, fma(dy_i, t10, dweight_sum))
                else:
                    for i in range(0, 1024, 16):
                        dy_i = load(dy_row, i, 16)
                        weight_i = load(weight, i, 16)
                        # t1 = dy * weight
                        t1 = dy_i * weight_i
                        # t2 = t1 * rstd_value
                        t2 = t1 * rstd_value_f32
                        x_i = load(x_row, i, 16)
                        # dx_i = t2 + x * t8
                        dx_i = fma(x_i, t8_f32, t2)
                        # t10 = x * rstd_value
                        t10 = x_i * rstd_value_f32
                        store(dx_row, i, dx_i)
                        dweight_sum = load(sums, i, 16)
                        store(sums, i, fma(dy_i, t10, dweight_sum))
            else:
                # t6 = square(rstd_value)
                t6 = square(rstd_value)
                t4_wide_lanes_total = f64x(0.0, 4)
                for start in range(0, 1024, 64):
                    t4_wide_lanes = f64x(0.0, 4)
                    for i in range(start, min(start + 64, 1024), 4):
                        dy_wide = as_float64(load(dy_row, i, 4))
                        weight_wide = as_float64(load(weight, i, 4))
                        # t1 = dy * weight
                        t1_wide = dy_wide * weight_wide
                        x_wide = as_float64(load(x_row, i, 4))
                        t4_wide_lanes = fma(t1_wide, x_wide, t4_wide_lanes)
                    t4_wide_lanes_total += as_float64(t4_wide_lanes)
                # t4 = sum[d](t1 * x)
                t4 = total(t4_wide_lanes_total)
                # t5 = t4 * rstd_value
                t5 = t4 * rstd_value
                # t7 = t5 * t6
                t7 = t5 * t6
                # t8 = t7 * (-0.0009765625)
                t8 = t7 * -0.0009765625
                for i in range(0, 1024, 4):
                    dy_wide = as_float64(load(dy_row, i, 4))
                    weight_wide = as_float64(load(weight, i, 4))
                    # t1 = dy * weight
                    t1_wide = dy_wide * weight_wide
                    # t2 = t1 * rstd_value
                    t2_wide = t1_wide * rstd_value
                    x_wide = as_float64(load(x_row, i, 4))
                    # dx_i = t2 + x * t8
                    dx_wide = fma(x_wide, t8, t2_wide)
                    # t10 = x * rstd_value
                    t10_wide = x_wide * rstd_value
                    store(dx_row, i, dx_wide)
                    dweight_sum_wide = as_float64(load(sums, i, 4))
                    store(sums, i, fma(dy_wide, t10_wide, dweight_sum_wide))
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_combine(dweight, partial, rows, begin, end):
    blocks = (rows + 63) // 64
    for tile in range(begin, end):
        i = tile * 4
        dweight_sum_i = f64x(0.0, 4)
        for block in range(blocks):
            dweight_sum_i += as_float64(load(partial, block * 1024 + 0 + i, 4))
        store(dweight, i, dweight_sum_i)
    return 0
