"""rms_norm: ... [d], d=13

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    columns,
    columns_for,
    elements_to_boundary,
    f64x,
    fence,
    fma,
    is_given,
    keep_first,
    load,
    load_partial,
    prefetch,
    read,
    rsqrt,
    square,
    store,
    store_partial,
    store_rows,
    stream_rows,
    total,
    write,
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
    large = rows >= 120989
    streamed = large and elements_to_boundary(dx, 32) == 0
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, rows - i)
        if large:
            prefetch(x, i * 13 + 208, 208, 2)
            prefetch(dy, i * 13 + 208, 208, 2)
        x_tile = columns(x, i * 13, count, 13, 16)
        dy_tile = columns(dy, i * 13, count, 13, 16)
        dx_tile = columns_for(dx, 13, 16)
        rstd_value = load_partial(rstd, i, count, 16)
        # t5 = square(rstd_value)
        t5 = square(rstd_value)
        t3_lanes = f64x(0.0, 16)
        for d in range(13):
            dy_at = advance(dy_tile, d * 16)
            x_at = advance(x_tile, d * 16)
            weight_i = read(weight, d)
            dy_i = load(dy_at, 0, 16)
            x_i = load(x_at, 0, 16)
            # t1 = x * weight
            t1 = x_i * weight_i
            t3_lanes = fma(dy_i, t1, t3_lanes)
        # t3 = sum[d](dy * t1)
        t3 = t3_lanes
        # t4 = t3 * rstd_value
        t4 = t3 * rstd_value
        # t6 = t4 * t5
        t6 = t4 * t5
        # t7 = t6 * (-0.07692307692307693)
        t7 = t6 * -0.07692307692307693
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            dy_at = advance(dy_tile, d * 16)
            dx_at = advance(dx_tile, d * 16)
            weight_i = read(weight, d)
            x_i = load(x_at, 0, 16)
            dy_i = load(dy_at, 0, 16)
            # t8 = x * t7
            t8 = x_i * t7
            # t9 = dy * rstd_value
            t9 = dy_i * rstd_value
            # dx_i = t8 + t9 * weight
            dx_i = fma(t9, weight_i, t8)
            store(dx_at, 0, dx_i)
            write(dweight_sum, tile * 13 + d, total(keep_first(t9 * x_i, count, 0.0)))
        if streamed and count == 16:
            stream_rows(dx, i * 13, 13, 16, dx_tile, 32)
        else:
            store_rows(dx, i * 13, count, 13, 16, dx_tile)
    if streamed:
        fence()
    return 0


def lnc_rms_norm_backward_2(dweight_sum, dweight, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, 13 - i)
        dweight_value_lanes = f64x(0.0, 16)
        for block in range((rows + 15) // 16):
            dweight_sum_at = advance(dweight_sum, block * 13)
            dweight_sum_i = load_partial(dweight_sum_at, i, count, 16)
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        store_partial(dweight, i, count, dweight_value)
    return 0
