"""rms_norm: ... [d], d=13

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    elements_to_boundary,
    f64x,
    fence,
    fma,
    is_given,
    keep_first,
    load,
    load_partial,
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
    streamed = rows >= 120989
    for row in range(begin, end):
        x_row = advance(x, row * 13)
        y_row = advance(y, row * 13)
        t3_lanes = f64x(0.0, 16)
        i = 0
        x_i = load_partial(x_row, i, 13, 16)
        # t2 = square(x)
        t2 = square(x_i)
        t3_lanes += keep_first(t2, 13, 0.0)
        # t3 = mean[d](t2)
        t3 = total(t3_lanes) / 13.0
        # t4 = t3 + 1e-05
        t4 = t3 + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        if streamed:
            start = min(elements_to_boundary(y_row, 32), 13)
            stop = start + (13 - start) // 8 * 8
            left = 13 - stop
            if start > 0:
                i = 0
                x_i = load_partial(x_row, i, start, 8)
                weight_i = load_partial(weight, i, start, 8)
                # t1 = x * weight
                t1 = x_i * weight_i
                # y_i = t1 * rstd_value
                y_i = t1 * rstd_value
                store_partial(y_row, i, start, y_i)
            for i in range(start, stop, 8):
                x_i = load(x_row, i, 8)
                weight_i = load(weight, i, 8)
                # t1 = x * weight
                t1 = x_i * weight_i
                # y_i = t1 * rstd_value
                y_i = t1 * rstd_value
                stream(y_row, i, y_i, 32)
            if left > 0:
                i = stop
                x_i = load_partial(x_row, i, left, 8)
                weight_i = load_partial(weight, i, left, 8)
                # t1 = x * weight
                t1 = x_i * weight_i
                # y_i = t1 * rstd_value
                y_i = t1 * rstd_value
                store_partial(y_row, i, left, y_i)
        else:
            for i in range(0, 8, 8):
                x_i = load(x_row, i, 8)
                weight_i = load(weight, i, 8)
                # t1 = x * weight
                t1 = x_i * weight_i
                # y_i = t1 * rstd_value
                y_i = t1 * rstd_value
                store(y_row, i, y_i)
            i = 8
            x_i = load_partial(x_row, i, 5, 8)
            weight_i = load_partial(weight, i, 5, 8)
            # t1 = x * weight
            t1 = x_i * weight_i
            # y_i = t1 * rstd_value
            y_i = t1 * rstd_value
            store_partial(y_row, i, 5, y_i)
        if keep:
            write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, dweight_sum, rows, begin, end):
    streamed = rows >= 120989
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 13)
        for i in range(0, 8, 8):
            store(sums, i, f64x(0.0, 8))
        i = 8
        store_partial(sums, i, 5, f64x(0.0, 8))
        for row in range(block * 64, min(block * 64 + 64, rows)):
            x_row = advance(x, row * 13)
            dy_row = advance(dy, row * 13)
            dx_row = advance(dx, row * 13)
            dweight_sum_row = advance(dweight_sum, block * 13)
            rstd_value = read(rstd, row)
            # t5 = square(rstd_value)
            t5 = square(rstd_value)
            t3_lanes = f64x(0.0, 16)
            i = 0
            dy_i = load_partial(dy_row, i, 13, 16)
            x_i = load_partial(x_row, i, 13, 16)
            weight_i = load_partial(weight, i, 13, 16)
            # t1 = x * weight
            t1 = x_i * weight_i
            t3_lanes += keep_first(dy_i * t1, 13, 0.0)
            # t3 = sum[d](dy * t1)
            t3 = total(t3_lanes)
            # t4 = t3 * rstd_value
            t4 = t3 * rstd_value
            # t6 = t4 * t5
            t6 = t4 * t5
            # t7 = t6 * (-0.07692307692307693)
            t7 = t6 * -0.07692307692307693
            if streamed:
                start = min(elements_to_boundary(dx_row, 32), 13)
                stop = start + (13 - start) // 8 * 8
                left = 13 - stop
                if start > 0:
                    i = 0
                    x_i = load_partial(x_row, i, start, 8)
                    dy_i = load_partial(dy_row, i, start, 8)
                    weight_i = load_partial(weight, i, start, 8)
                    # t8 = x * t7
                    t8 = x_i * t7
                    # t9 = dy * rstd_value
                    t9 = dy_i * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i = fma(t9, weight_i, t8)
                    store_partial(dx_row, i, start, dx_i)
                    dweight_sum_i = load_partial(dweight_sum_row, i, start, 8)
                    store_partial(dweight_sum_row, i, start, fma(t9, x_i, dweight_sum_i))
                for i in range(start, stop, 8):
                    x_i = load(x_row, i, 8)
                    dy_i = load(dy_row, i, 8)
                    weight_i = load(weight, i, 8)
                    # t8 = x * t7
                    t8 = x_i * t7
                    # t9 = dy * rstd_value
                    t9 = dy_i * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i = fma(t9, weight_i, t8)
                    stream(dx_row, i, dx_i, 32)
                    dweight_sum_i = load(dweight_sum_row, i, 8)
                    store(dweight_sum_row, i, fma(t9, x_i, dweight_sum_i))
                if left > 0:
                    i = stop
                    x_i = load_partial(x_row, i, left, 8)
                    dy_i = load_partial(dy_row, i, left, 8)
                    weight_i = load_partial(weight, i, left, 8)
                    # t8 = x * t7
                    t8 = x_i * t7
                    # t9 = dy * rstd_value
                    t9 = dy_i * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i = fma(t9, weight_i, t8)
                    store_partial(dx_row, i, left, dx_i)
                    dweight_sum_i = load_partial(dweight_sum_row, i, left, 8)
                    store_partial(dweight_sum_row, i, left, fma(t9, x_i, dweight_sum_i))
            else:
                for i in range(0, 8, 8):
                    x_i = load(x_row, i, 8)
                    dy_i = load(dy_row, i, 8)
                    weight_i = load(weight, i, 8)
                    # t8 = x * t7
                    t8 = x_i * t7
                    # t9 = dy * rstd_value
                    t9 = dy_i * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i = fma(t9, weight_i, t8)
                    store(dx_row, i, dx_i)
                    dweight_sum_i = load(dweight_sum_row, i, 8)
                    store(dweight_sum_row, i, fma(t9, x_i, dweight_sum_i))
                i = 8
                x_i = load_partial(x_row, i, 5, 8)
                dy_i = load_partial(dy_row, i, 5, 8)
                weight_i = load_partial(weight, i, 5, 8)
                # t8 = x * t7
                t8 = x_i * t7
                # t9 = dy * rstd_value
                t9 = dy_i * rstd_value
                # dx_i = t8 + t9 * weight
                dx_i = fma(t9, weight_i, t8)
                store_partial(dx_row, i, 5, dx_i)
                dweight_sum_i = load_partial(dweight_sum_row, i, 5, 8)
                store_partial(dweight_sum_row, i, 5, fma(t9, x_i, dweight_sum_i))
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_2(dweight_sum, dweight, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, 13 - i)
        dweight_value_lanes = f64x(0.0, 16)
        for block in range((rows + 63) // 64):
            dweight_sum_at = advance(dweight_sum, block * 13)
            dweight_sum_i = load_partial(dweight_sum_at, i, count, 16)
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        store_partial(dweight, i, count, dweight_value)
    return 0
