"""rms_norm: ... [d], d=13

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    columns,
    columns_for,
    elements_to_boundary,
    f64_memory,
    f64x,
    fence,
    fma,
    is_given,
    keep_first,
    load,
    load_partial,
    partial_total,
    prefetch,
    read,
    rsqrt,
    signal_fence,
    square,
    store,
    store_partial,
    store_rows,
    stream_rows,
    totals,
)


def lnc_rms_norm_forward(x, weight, y, rstd, rows, begin, end):
    large = rows >= 120989
    streamed = large and elements_to_boundary(y, 32) == 0
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, rows - i)
        if large:
            prefetch(x, i * 13 + 208, 208, 2)
        x_tile = columns(x, i * 13, count, 13, 16)
        y_tile = columns_for(y, 13, 16)
        t3_lanes = f64x(0.0, 16)
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            x_i = load(x_at, 0, 16)
            t3_lanes = fma(x_i, x_i, t3_lanes)
        # t3 = mean[d](square(x))
        t3 = t3_lanes / 13.0
        # t4 = t3 + 1e-05
        t4 = t3 + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            y_at = advance(y_tile, d * 16)
            weight_i = read(weight, d)
            x_i = load(x_at, 0, 16)
            # t1 = x * weight
            t1 = x_i * weight_i
            # y_i = t1 * rstd_value
            y_i = t1 * rstd_value
            store(y_at, 0, y_i)
        if streamed and count == 16:
            stream_rows(y, i * 13, 13, 16, y_tile, 32)
        else:
            store_rows(y, i * 13, count, 13, 16, y_tile)
        if is_given(rstd):
            store_partial(rstd, i, count, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, dweight_sum, rows, begin, end):
    rstd_value_memory = f64_memory(4)
    t3_lanes_memory = f64_memory(16)
    t7_memory = f64_memory(4)
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 13)
        for i in range(0, 8, 8):
            store(sums, i, f64x(0.0, 8))
        i = 8
        store_partial(sums, i, 5, f64x(0.0, 8))
        for from_row in range(block * 64, min(block * 64 + 64, rows), 4):
            to_row = min(from_row + 4, min(block * 64 + 64, rows))
            rstd_value = load_partial(rstd, from_row, to_row - from_row, 4)
            # t5 = square(rstd_value)
            t5 = square(rstd_value)
            for row in range(from_row, to_row):
                dy_row = advance(dy, row * 13)
                x_row = advance(x, row * 13)
                t3_lanes = f64x(0.0, 4)
                for i in range(0, 12, 4):
                    dy_i = load(dy_row, i, 4)
                    x_i = load(x_row, i, 4)
                    weight_i = load(weight, i, 4)
                    # t1 = x * weight
                    t1 = x_i * weight_i
                    t3_lanes = fma(dy_i, t1, t3_lanes)
                i = 12
                dy_i = load_partial(dy_row, i, 1, 4)
                x_i = load_partial(x_row, i, 1, 4)
                weight_i = load_partial(weight, i, 1, 4)
                # t1 = x * weight
                t1 = x_i * weight_i
                t3_lanes += keep_first(dy_i * t1, 1, 0.0)
                store(t3_lanes_memory, (row - from_row) * 4, partial_total(t3_lanes, 4))
            # t3 = sum[d](dy * t1)
            t3 = totals(t3_lanes_memory, 4, 4)
            # t4 = t3 * rstd_value
            t4 = t3 * rstd_value
            # t6 = t4 * t5
            t6 = t4 * t5
            # t7 = t6 * (-0.07692307692307693)
            t7 = t6 * -0.07692307692307693
            store(t7_memory, 0, t7)
            store(rstd_value_memory, 0, rstd_value)
            for row in range(from_row, to_row):
                x_row = advance(x, row * 13)
                dy_row = advance(dy, row * 13)
                dx_row = advance(dx, row * 13)
                dweight_sum_row = advance(dweight_sum, block * 13)
                t7 = read(t7_memory, row - from_row)
                rstd_value = read(rstd_value_memory, row - from_row)
                for i in range(0, 8, 8):
                    x_i = load(x_row, i, 8)
                    dy_i = load(dy_row, i, 8)
                    signal_fence()
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
                for i in range(8, 12, 4):
                    x_i = load(x_row, i, 4)
                    dy_i = load(dy_row, i, 4)
                    weight_i = load(weight, i, 4)
                    # t8 = x * t7
                    t8 = x_i * t7
                    # t9 = dy * rstd_value
                    t9 = dy_i * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i = fma(t9, weight_i, t8)
                    store(dx_row, i, dx_i)
                    dweight_sum_i = load(dweight_sum_row, i, 4)
                    store(dweight_sum_row, i, fma(t9, x_i, dweight_sum_i))
                i = 12
                x_i = load_partial(x_row, i, 1, 4)
                dy_i = load_partial(dy_row, i, 1, 4)
                weight_i = load_partial(weight, i, 1, 4)
                # t8 = x * t7
                t8 = x_i * t7
                # t9 = dy * rstd_value
                t9 = dy_i * rstd_value
                # dx_i = t8 + t9 * weight
                dx_i = fma(t9, weight_i, t8)
                store_partial(dx_row, i, 1, dx_i)
                dweight_sum_i = load_partial(dweight_sum_row, i, 1, 4)
                store_partial(dweight_sum_row, i, 1, fma(t9, x_i, dweight_sum_i))
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
