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
        t2_lanes = f64x(0.0, 16)
        i = 0
        x_i = load_partial(x_row, i, 13, 16)
        # t1 = square(x)
        t1 = square(x_i)
        t2_lanes += keep_first(t1, 13, 0.0)
        # t2 = mean[d](t1)
        t2 = total(t2_lanes) / 13.0
        # t3 = t2 + 1e-05
        t3 = t2 + 1e-05
        # rstd_value = rsqrt(t3)
        rstd_value = rsqrt(t3)
        if streamed:
            start = min(elements_to_boundary(y_row, 32), 13)
            stop = start + (13 - start) // 8 * 8
            left = 13 - stop
            if start > 0:
                i = 0
                x_i = load_partial(x_row, i, start, 8)
                # t4 = x * rstd_value
                t4 = x_i * rstd_value
                weight_i = load_partial(weight, i, start, 8)
                # y_i = t4 * weight
                y_i = t4 * weight_i
                store_partial(y_row, i, start, y_i)
            for i in range(start, stop, 8):
                x_i = load(x_row, i, 8)
                # t4 = x * rstd_value
                t4 = x_i * rstd_value
                weight_i = load(weight, i, 8)
                # y_i = t4 * weight
                y_i = t4 * weight_i
                stream(y_row, i, y_i, 32)
            if left > 0:
                i = stop
                x_i = load_partial(x_row, i, left, 8)
                # t4 = x * rstd_value
                t4 = x_i * rstd_value
                weight_i = load_partial(weight, i, left, 8)
                # y_i = t4 * weight
                y_i = t4 * weight_i
                store_partial(y_row, i, left, y_i)
        else:
            for i in range(0, 8, 8):
                x_i = load(x_row, i, 8)
                # t4 = x * rstd_value
                t4 = x_i * rstd_value
                weight_i = load(weight, i, 8)
                # y_i = t4 * weight
                y_i = t4 * weight_i
                store(y_row, i, y_i)
            i = 8
            x_i = load_partial(x_row, i, 5, 8)
            # t4 = x * rstd_value
            t4 = x_i * rstd_value
            weight_i = load_partial(weight, i, 5, 8)
            # y_i = t4 * weight
            y_i = t4 * weight_i
            store_partial(y_row, i, 5, y_i)
        if keep:
            write(rstd, row, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, partial, rows, begin, end):
    streamed = rows >= 120989
    for block in range(begin, end):
        sums = advance(partial, block * 13)
        for i in range(0, 8, 8):
            store(sums, i, f64x(0.0, 8))
        i = 8
        store_partial(sums, i, 5, f64x(0.0, 8))
        for row in range(block * 1024, min(block * 1024 + 1024, rows)):
            x_row = advance(x, row * 13)
            dy_row = advance(dy, row * 13)
            dx_row = advance(dx, row * 13)
            rstd_value = read(rstd, row)
            # t6 = square(rstd_value)
            t6 = square(rstd_value)
            t4_lanes = f64x(0.0, 16)
            i = 0
            dy_i = load_partial(dy_row, i, 13, 16)
            weight_i = load_partial(weight, i, 13, 16)
            # t1 = dy * weight
            t1 = dy_i * weight_i
            x_i = load_partial(x_row, i, 13, 16)
            t4_lanes += keep_first(t1 * x_i, 13, 0.0)
            # t4 = sum[d](t1 * x)
            t4 = total(t4_lanes)
            # t5 = t4 * rstd_value
            t5 = t4 * rstd_value
            # t7 = t5 * t6
            t7 = t5 * t6
            # t8 = t7 * (-0.07692307692307693)
            t8 = t7 * -0.07692307692307693
            if streamed:
                start = min(elements_to_boundary(dx_row, 32), 13)
                stop = start + (13 - start) // 8 * 8
                left = 13 - stop
                if start > 0:
                    i = 0
                    dy_i = load_partial(dy_row, i, start, 8)
                    weight_i = load_partial(weight, i, start, 8)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t2 = t1 * rstd_value
                    t2 = t1 * rstd_value
                    x_i = load_partial(x_row, i, start, 8)
                    # dx_i = t2 + x * t8
                    dx_i = fma(x_i, t8, t2)
                    # t10 = x * rstd_value
                    t10 = x_i * rstd_value
                    store_partial(dx_row, i, start, dx_i)
                    dweight_sum = load_partial(sums, i, start, 8)
                    store_partial(sums, i, start, fma(dy_i, t10, dweight_sum))
                for i in range(start, stop, 8):
                    dy_i = load(dy_row, i, 8)
                    weight_i = load(weight, i, 8)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t2 = t1 * rstd_value
                    t2 = t1 * rstd_value
                    x_i = load(x_row, i, 8)
                    # dx_i = t2 + x * t8
                    dx_i = fma(x_i, t8, t2)
                    # t10 = x * rstd_value
                    t10 = x_i * rstd_value
                    stream(dx_row, i, dx_i, 32)
                    dweight_sum = load(sums, i, 8)
                    store(sums, i, fma(dy_i, t10, dweight_sum))
                if left > 0:
                    i = stop
                    dy_i = load_partial(dy_row, i, left, 8)
                    weight_i = load_partial(weight, i, left, 8)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t2 = t1 * rstd_value
                    t2 = t1 * rstd_value
                    x_i = load_partial(x_row, i, left, 8)
                    # dx_i = t2 + x * t8
                    dx_i = fma(x_i, t8, t2)
                    # t10 = x * rstd_value
                    t10 = x_i * rstd_value
                    store_partial(dx_row, i, left, dx_i)
                    dweight_sum = load_partial(sums, i, left, 8)
                    store_partial(sums, i, left, fma(dy_i, t10, dweight_sum))
            else:
                for i in range(0, 8, 8):
                    dy_i = load(dy_row, i, 8)
                    weight_i = load(weight, i, 8)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t2 = t1 * rstd_value
                    t2 = t1 * rstd_value
                    x_i = load(x_row, i, 8)
                    # dx_i = t2 + x * t8
                    dx_i = fma(x_i, t8, t2)
                    # t10 = x * rstd_value
                    t10 = x_i * rstd_value
                    store(dx_row, i, dx_i)
                    dweight_sum = load(sums, i, 8)
                    store(sums, i, fma(dy_i, t10, dweight_sum))
                i = 8
                dy_i = load_partial(dy_row, i, 5, 8)
                weight_i = load_partial(weight, i, 5, 8)
                # t1 = dy * weight
                t1 = dy_i * weight_i
                # t2 = t1 * rstd_value
                t2 = t1 * rstd_value
                x_i = load_partial(x_row, i, 5, 8)
                # dx_i = t2 + x * t8
                dx_i = fma(x_i, t8, t2)
                # t10 = x * rstd_value
                t10 = x_i * rstd_value
                store_partial(dx_row, i, 5, dx_i)
                dweight_sum = load_partial(sums, i, 5, 8)
                store_partial(sums, i, 5, fma(dy_i, t10, dweight_sum))
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_combine(dweight, partial, rows, begin, end):
    blocks = (rows + 1023) // 1024
    for tile in range(begin, end):
        i = tile * 4
        count = min(4, 13 - i)
        dweight_sum_i = f64x(0.0, 4)
        for block in range(blocks):
            dweight_sum_i += load_partial(partial, block * 13 + 0 + i, count, 4)
        store_partial(dweight, i, count, dweight_sum_i)
    return 0
