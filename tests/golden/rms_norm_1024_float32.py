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
    signal_fence,
    square,
    store,
    store_partial,
    stream,
    total,
    write,
)


def lnc_rms_norm_forward(x, weight, y, rstd, rows, begin, end):
    if begin >= end:
        return 0
    last_row = end - 1
    row_next = begin
    x_next = advance(x, row_next * 1024)
    t3_next_lanes_total = f64x(0.0, 32)
    for start in range(0, 1024, 512):
        t3_next_lanes = f32x(0.0, 32)
        for i in range(start, min(start + 512, 1024), 32):
            x_next_i = load(x_next, i, 32)
            t3_next_lanes = fma(x_next_i, x_next_i, t3_next_lanes)
        t3_next_lanes_total += as_float64(t3_next_lanes)
    streamed = rows >= 3072
    for row in range(begin, end):
        x_row = advance(x, row * 1024)
        y_row = advance(y, row * 1024)
        t3_lanes_total = t3_next_lanes_total
        # t3 = mean[d](square(x))
        t3 = total(t3_lanes_total) / 1024.0
        # t4 = t3 + 1e-05
        t4 = t3 + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        rstd_value_f32 = as_float32(rstd_value)
        ordinary = is_finite(t3) and is_moderate(rstd_value)
        row_next = min(row + 1, last_row)
        x_next = advance(x, row_next * 1024)
        if ordinary:
            if row < last_row:
                if streamed:
                    t3_next_lanes_total = f64x(0.0, 32)
                    start = min(elements_to_boundary(y_row, 32), 1024)
                    stop = start + (1024 - start) // 32 * 32
                    left = 1024 - stop
                    x_next = advance(x_next, -start)
                    if start > 0:
                        i = 0
                        x_i = load_partial(x_row, i, start, 16)
                        weight_i = load_partial(weight, i, start, 16)
                        # t1 = x * weight
                        t1 = x_i * weight_i
                        # y_i = t1 * rstd_value
                        y_i = t1 * rstd_value_f32
                        store_partial(y_row, i, start, y_i)
                    for chunk in range(start, start + 1024, 512):
                        t3_next_lanes = f32x(0.0, 32)
                        for i in range(chunk, min(chunk + 512, stop), 32):
                            prefetch(x_next, i + 512, 32, 1)
                            x_i = load(x_row, i, 32)
                            signal_fence()
                            weight_i = load(weight, i, 32)
                            # t1 = x * weight
                            t1 = x_i * weight_i
                            # y_i = t1 * rstd_value
                            y_i = t1 * rstd_value_f32
                            stream(y_row, i, y_i, 32)
                            x_next_i = load(x_next, i, 32)
                            t3_next_lanes = fma(x_next_i, x_next_i, t3_next_lanes)
                        if chunk + 512 >= start + 1024:
                            for i in range(stop, start + 1024, 32):
                                x_next_i = load(x_next, i, 32)
                                t3_next_lanes = fma(x_next_i, x_next_i, t3_next_lanes)
                        t3_next_lanes_total += as_float64(t3_next_lanes)
                    if left > 0:
                        i = stop
                        x_i = load_partial(x_row, i, left, 32)
                        weight_i = load_partial(weight, i, left, 32)
                        # t1 = x * weight
                        t1 = x_i * weight_i
                        # y_i = t1 * rstd_value
                        y_i = t1 * rstd_value_f32
                        store_partial(y_row, i, left, y_i)
                else:
                    t3_next_lanes_total = f64x(0.0, 32)
                    for start in range(0, 1024, 512):
                        t3_next_lanes = f32x(0.0, 32)
                        for i in range(start, min(start + 512, 1024), 32):
                            x_i = load(x_row, i, 32)
                            signal_fence()
                            weight_i = load(weight, i, 32)
                            # t1 = x * weight
                            t1 = x_i * weight_i
                            # y_i = t1 * rstd_value
                            y_i = t1 * rstd_value_f32
                            store(y_row, i, y_i)
                            x_next_i = load(x_next, i, 32)
                            t3_next_lanes = fma(x_next_i, x_next_i, t3_next_lanes)
                        t3_next_lanes_total += as_float64(t3_next_lanes)
            else:
                for i in range(0, 1024, 32):
                    x_i = load(x_row, i, 32)
                    signal_fence()
                    weight_i = load(weight, i, 32)
                    # t1 = x * weight
                    t1 = x_i * weight_i
                    # y_i = t1 * rstd_value
                    y_i = t1 * rstd_value_f32
                    store(y_row, i, y_i)
        else:
            t3_wide_lanes_total = f64x(0.0, 4)
            for start in range(0, 1024, 64):
                t3_wide_lanes = f64x(0.0, 4)
                for i in range(start, min(start + 64, 1024), 4):
                    x_wide = as_float64(load(x_row, i, 4))
                    t3_wide_lanes = fma(x_wide, x_wide, t3_wide_lanes)
                t3_wide_lanes_total += as_float64(t3_wide_lanes)
            # t3 = mean[d](square(x))
            t3 = total(t3_wide_lanes_total) / 1024.0
            # t4 = t3 + 1e-05
            t4 = t3 + 1e-05
            # rstd_value = rsqrt(t4)
            rstd_value = rsqrt(t4)
            for i in range(0, 1024, 4):
                x_wide = as_float64(load(x_row, i, 4))
                weight_wide = as_float64(load(weight, i, 4))
                # t1 = x * weight
                t1_wide = x_wide * weight_wide
                # y_i = t1 * rstd_value
                y_wide = t1_wide * rstd_value
                store(y_row, i, y_wide)
            if row < last_row:
                t3_next_lanes_total = f64x(0.0, 32)
                for start in range(0, 1024, 512):
                    t3_next_lanes = f32x(0.0, 32)
                    for i in range(start, min(start + 512, 1024), 32):
                        x_next_i = load(x_next, i, 32)
                        t3_next_lanes = fma(x_next_i, x_next_i, t3_next_lanes)
                    t3_next_lanes_total += as_float64(t3_next_lanes)
        if is_given(rstd):
            write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, dweight_sum, rows, begin, end):
    if begin >= end:
        return 0
    last_row = min(end * 64, rows) - 1
    row_next = begin * 64
    dy_next = advance(dy, row_next * 1024)
    x_next = advance(x, row_next * 1024)
    weight_next = weight
    t3_next_lanes_total = f64x(0.0, 32)
    for start in range(0, 1024, 512):
        t3_next_lanes = f32x(0.0, 32)
        for i in range(start, min(start + 512, 1024), 32):
            dy_next_i = load(dy_next, i, 32)
            x_next_i = load(x_next, i, 32)
            weight_next_i = load(weight_next, i, 32)
            # t1_next = x_next * weight_next
            t1_next = x_next_i * weight_next_i
            t3_next_lanes = fma(dy_next_i, t1_next, t3_next_lanes)
        t3_next_lanes_total += as_float64(t3_next_lanes)
    streamed = rows >= 3072
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 1024)
        for i in range(0, 1024, 16):
            store(sums, i, f32x(0.0, 16))
        for row in range(block * 64, min(block * 64 + 64, rows)):
            x_row = advance(x, row * 1024)
            dy_row = advance(dy, row * 1024)
            dx_row = advance(dx, row * 1024)
            dweight_sum_row = advance(dweight_sum, block * 1024)
            rstd_value = read(rstd, row)
            # t5 = square(rstd_value)
            t5 = square(rstd_value)
            t3_lanes_total = t3_next_lanes_total
            # t3 = sum[d](dy * t1)
            t3 = total(t3_lanes_total)
            # t4 = t3 * rstd_value
            t4 = t3 * rstd_value
            # t6 = t4 * t5
            t6 = t4 * t5
            # t7 = t6 * (-0.0009765625)
            t7 = t6 * -0.0009765625
            t7_f32 = as_float32(t7)
            rstd_value_f32 = as_float32(rstd_value)
            ordinary = is_finite(t3) and fits_float32(t7) and is_moderate(rstd_value)
            row_next = min(row + 1, last_row)
            dy_next = advance(dy, row_next * 1024)
            x_next = advance(x, row_next * 1024)
            weight_next = weight
            if ordinary:
                if row < last_row:
                    if streamed:
                        t3_next_lanes_total = f64x(0.0, 32)
                        start = min(elements_to_boundary(dx_row, 32), 1024)
                        stop = start + (1024 - start) // 32 * 32
                        left = 1024 - stop
                        dy_next = advance(dy_next, -start)
                        weight_next = advance(weight_next, -start)
                        x_next = advance(x_next, -start)
                        if start > 0:
                            i = 0
                            x_i = load_partial(x_row, i, start, 16)
                            dy_i = load_partial(dy_row, i, start, 16)
                            weight_i = load_partial(weight, i, start, 16)
                            # t8 = x * t7
                            t8 = x_i * t7_f32
                            # t9 = dy * rstd_value
                            t9 = dy_i * rstd_value_f32
                            # dx_i = t8 + t9 * weight
                            dx_i = fma(t9, weight_i, t8)
                            store_partial(dx_row, i, start, dx_i)
                            dweight_sum_i = load_partial(dweight_sum_row, i, start, 16)
                            store_partial(dweight_sum_row, i, start, fma(t9, x_i, dweight_sum_i))
                        for chunk in range(start, start + 1024, 512):
                            t3_next_lanes = f32x(0.0, 32)
                            for i in range(chunk, min(chunk + 512, stop), 32):
                                prefetch(dy_next, i + 512, 32, 1)
                                prefetch(x_next, i + 512, 32, 1)
                                x_i = load(x_row, i, 32)
                                dy_i = load(dy_row, i, 32)
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
                                dy_next_i = load(dy_next, i, 32)
                                x_next_i = load(x_next, i, 32)
                                weight_next_i = load(weight_next, i, 32)
                                # t1_next = x_next * weight_next
                                t1_next = x_next_i * weight_next_i
                                t3_next_lanes = fma(dy_next_i, t1_next, t3_next_lanes)
                            if chunk + 512 >= start + 1024:
                                for i in range(stop, start + 1024, 32):
                                    dy_next_i = load(dy_next, i, 32)
                                    x_next_i = load(x_next, i, 32)
                                    weight_next_i = load(weight_next, i, 32)
                                    # t1_next = x_next * weight_next
                                    t1_next = x_next_i * weight_next_i
                                    t3_next_lanes = fma(dy_next_i, t1_next, t3_next_lanes)
                            t3_next_lanes_total += as_float64(t3_next_lanes)
                        if left > 0:
                            i = stop
                            x_i = load_partial(x_row, i, left, 32)
                            dy_i = load_partial(dy_row, i, left, 32)
                            weight_i = load_partial(weight, i, left, 32)
                            # t8 = x * t7
                            t8 = x_i * t7_f32
                            # t9 = dy * rstd_value
                            t9 = dy_i * rstd_value_f32
                            # dx_i = t8 + t9 * weight
                            dx_i = fma(t9, weight_i, t8)
                            store_partial(dx_row, i, left, dx_i)
                            dweight_sum_i = load_partial(dweight_sum_row, i, left, 32)
                            store_partial(dweight_sum_row, i, left, fma(t9, x_i, dweight_sum_i))
                    else:
                        t3_next_lanes_total = f64x(0.0, 32)
                        for start in range(0, 1024, 512):
                            t3_next_lanes = f32x(0.0, 32)
                            for i in range(start, min(start + 512, 1024), 32):
                                x_i = load(x_row, i, 32)
                                dy_i = load(dy_row, i, 32)
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
                                dy_next_i = load(dy_next, i, 32)
                                x_next_i = load(x_next, i, 32)
                                weight_next_i = load(weight_next, i, 32)
                                # t1_next = x_next * weight_next
                                t1_next = x_next_i * weight_next_i
                                t3_next_lanes = fma(dy_next_i, t1_next, t3_next_lanes)
                            t3_next_lanes_total += as_float64(t3_next_lanes)
                else:
                    for i in range(0, 1024, 32):
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
                t3_wide_lanes_total = f64x(0.0, 4)
                for start in range(0, 1024, 64):
                    t3_wide_lanes = f64x(0.0, 4)
                    for i in range(start, min(start + 64, 1024), 4):
                        dy_wide = as_float64(load(dy_row, i, 4))
                        x_wide = as_float64(load(x_row, i, 4))
                        weight_wide = as_float64(load(weight, i, 4))
                        # t1 = x * weight
                        t1_wide = x_wide * weight_wide
                        t3_wide_lanes = fma(dy_wide, t1_wide, t3_wide_lanes)
                    t3_wide_lanes_total += as_float64(t3_wide_lanes)
                # t3 = sum[d](dy * t1)
                t3 = total(t3_wide_lanes_total)
                # t4 = t3 * rstd_value
                t4 = t3 * rstd_value
                # t6 = t4 * t5
                t6 = t4 * t5
                # t7 = t6 * (-0.0009765625)
                t7 = t6 * -0.0009765625
                for i in range(0, 1024, 4):
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
                if row < last_row:
                    t3_next_lanes_total = f64x(0.0, 32)
                    for start in range(0, 1024, 512):
                        t3_next_lanes = f32x(0.0, 32)
                        for i in range(start, min(start + 512, 1024), 32):
                            dy_next_i = load(dy_next, i, 32)
                            x_next_i = load(x_next, i, 32)
                            weight_next_i = load(weight_next, i, 32)
                            # t1_next = x_next * weight_next
                            t1_next = x_next_i * weight_next_i
                            t3_next_lanes = fma(dy_next_i, t1_next, t3_next_lanes)
                        t3_next_lanes_total += as_float64(t3_next_lanes)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_2(dweight_sum, dweight, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        dweight_value_lanes = f64x(0.0, 16)
        for block in range((rows + 63) // 64):
            dweight_sum_at = advance(dweight_sum, block * 1024)
            dweight_sum_i = as_float64(load(dweight_sum_at, i, 16))
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        store(dweight, i, dweight_value)
    return 0
