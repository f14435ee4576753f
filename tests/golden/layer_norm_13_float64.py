"""layer_norm: ... [d], d=13

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
    maximum,
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


def lnc_layer_norm_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows, begin, end):
    large = rows >= 120989
    streamed = large and elements_to_boundary(y, 32) == 0
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, rows - i)
        if large:
            prefetch(x, i * 13 + 208, 208, 2)
        x_tile = columns(x, i * 13, count, 13, 16)
        y_tile = columns_for(y, 13, 16)
        # moments of x about its mean
        d = 0
        x_at = advance(x_tile, d * 16)
        x_i = load(x_at, 0, 16)
        x_first = x_i
        x_offsets = f64x(0.0, 16)
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            x_i = load(x_at, 0, 16)
            x_offsets += x_i - x_first
        x_pivot = x_first + x_offsets * 0.07692307692307693
        x_sums = f64x(0.0, 16)
        x_squares = f64x(0.0, 16)
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            x_i = load(x_at, 0, 16)
            x_offset = x_i - x_pivot
            x_sums += x_offset
            x_squares = fma(x_offset, x_offset, x_squares)
        x_shift = x_sums / 13.0
        x_spread = x_squares / 13.0 - x_shift * x_shift
        # mu_high_value = mean_high[d](x)
        mu_high_value = x_pivot + x_shift
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
        for d in range(13):
            x_at = advance(x_tile, d * 16)
            y_at = advance(y_tile, d * 16)
            weight_i = read(weight, d)
            bias_i = read(bias, d)
            x_i = load(x_at, 0, 16)
            # t1 = x - mu_high_value
            t1 = x_i - mu_high_value
            # t5 = t1 * rstd_value - t4
            t5 = fma(t1, rstd_value, -t4)
            # y_i = t5 * weight + bias
            y_i = fma(t5, weight_i, bias_i)
            store(y_at, 0, y_i)
        if streamed and count == 16:
            stream_rows(y, i * 13, 13, 16, y_tile, 32)
        else:
            store_rows(y, i * 13, count, 13, 16, y_tile)
        if is_given(mu_high):
            store_partial(mu_high, i, count, mu_high_value)
        if is_given(mu_low):
            store_partial(mu_low, i, count, mu_low_value)
        if is_given(rstd):
            store_partial(rstd, i, count, rstd_value)
    if streamed:
        fence()
    return 0


def lnc_layer_norm_backward(
    x,  # float64
    weight,  # float64
    dy,  # float64
    mu_high,  # float64
    mu_low,  # float64
    rstd,  # float64
    dx,  # float64
    dweight_sum,  # float64
    dbias_sum,  # float64
    rows,
    begin,
    end,
):
    mu_high_value_memory = f64_memory(4)
    rstd_value_memory = f64_memory(4)
    t14_memory = f64_memory(4)
    t15_memory = f64_memory(4)
    t19_memory = f64_memory(4)
    t2_lanes_memory = f64_memory(16)
    t3_memory = f64_memory(4)
    t8_lanes_memory = f64_memory(16)
    for block in range(begin, end):
        sums = advance(dweight_sum, block * 13)
        for i in range(0, 8, 8):
            store(sums, i, f64x(0.0, 8))
        i = 8
        store_partial(sums, i, 5, f64x(0.0, 8))
        sums = advance(dbias_sum, block * 13)
        for i in range(0, 8, 8):
            store(sums, i, f64x(0.0, 8))
        i = 8
        store_partial(sums, i, 5, f64x(0.0, 8))
        for from_row in range(block * 64, min(block * 64 + 64, rows), 4):
            to_row = min(from_row + 4, min(block * 64 + 64, rows))
            rstd_value = load_partial(rstd, from_row, to_row - from_row, 4)
            mu_low_value = load_partial(mu_low, from_row, to_row - from_row, 4)
            mu_high_value = load_partial(mu_high, from_row, to_row - from_row, 4)
            # t12 = square(rstd_value)
            t12 = square(rstd_value)
            # t19 = mu_low_value * rstd_value
            t19 = mu_low_value * rstd_value
            store(mu_high_value_memory, 0, mu_high_value)
            for row in range(from_row, to_row):
                dy_row = advance(dy, row * 13)
                x_row = advance(x, row * 13)
                mu_high_value = read(mu_high_value_memory, row - from_row)
                t2_lanes = f64x(0.0, 4)
                t8_lanes = f64x(0.0, 4)
                for i in range(0, 12, 4):
                    dy_i = load(dy_row, i, 4)
                    weight_i = load(weight, i, 4)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    x_i = load(x_row, i, 4)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    t2_lanes = t2_lanes + t1
                    t8_lanes = fma(t1, t6, t8_lanes)
                i = 12
                dy_i = load_partial(dy_row, i, 1, 4)
                weight_i = load_partial(weight, i, 1, 4)
                # t1 = dy * weight
                t1 = dy_i * weight_i
                x_i = load_partial(x_row, i, 1, 4)
                # t6 = x - mu_high_value
                t6 = x_i - mu_high_value
                t2_lanes += keep_first(t1, 1, 0.0)
                t8_lanes += keep_first(t1 * t6, 1, 0.0)
                store(t2_lanes_memory, (row - from_row) * 4, partial_total(t2_lanes, 4))
                store(t8_lanes_memory, (row - from_row) * 4, partial_total(t8_lanes, 4))
            mu_high_value = load(mu_high_value_memory, 0, 4)
            # t2 = sum[d](t1)
            t2 = totals(t2_lanes_memory, 4, 4)
            # t8 = sum[d](t1 * t6)
            t8 = totals(t8_lanes_memory, 4, 4)
            # t3 = t2 * 0.07692307692307693
            t3 = t2 * 0.07692307692307693
            # t9 = t2 * mu_low_value
            t9 = t2 * mu_low_value
            # t10 = t8 - t9
            t10 = t8 - t9
            # t11 = t10 * rstd_value
            t11 = t10 * rstd_value
            # t13 = t11 * t12
            t13 = t11 * t12
            # t14 = t13 * (-0.07692307692307693)
            t14 = t13 * -0.07692307692307693
            # t15 = mu_low_value * t14
            t15 = mu_low_value * t14
            store(t3_memory, 0, t3)
            store(rstd_value_memory, 0, rstd_value)
            store(t15_memory, 0, t15)
            store(t14_memory, 0, t14)
            store(t19_memory, 0, t19)
            for row in range(from_row, to_row):
                dy_row = advance(dy, row * 13)
                x_row = advance(x, row * 13)
                dx_row = advance(dx, row * 13)
                dweight_sum_row = advance(dweight_sum, block * 13)
                dbias_sum_row = advance(dbias_sum, block * 13)
                t3 = read(t3_memory, row - from_row)
                rstd_value = read(rstd_value_memory, row - from_row)
                mu_high_value = read(mu_high_value_memory, row - from_row)
                t15 = read(t15_memory, row - from_row)
                t14 = read(t14_memory, row - from_row)
                t19 = read(t19_memory, row - from_row)
                for i in range(0, 8, 8):
                    dy_i = load(dy_row, i, 8)
                    x_i = load(x_row, i, 8)
                    signal_fence()
                    weight_i = load(weight, i, 8)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t4 = t1 - t3
                    t4 = t1 - t3
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t16 = t4 * rstd_value - t15
                    t16 = fma(t4, rstd_value, -t15)
                    # dx_i = t16 + t6 * t14
                    dx_i = fma(t6, t14, t16)
                    # t20 = t6 * rstd_value - t19
                    t20 = fma(t6, rstd_value, -t19)
                    store(dx_row, i, dx_i)
                    dweight_sum_i = load(dweight_sum_row, i, 8)
                    store(dweight_sum_row, i, fma(t20, dy_i, dweight_sum_i))
                    dbias_sum_i = load(dbias_sum_row, i, 8)
                    store(dbias_sum_row, i, dbias_sum_i + dy_i)
                for i in range(8, 12, 4):
                    dy_i = load(dy_row, i, 4)
                    weight_i = load(weight, i, 4)
                    # t1 = dy * weight
                    t1 = dy_i * weight_i
                    # t4 = t1 - t3
                    t4 = t1 - t3
                    x_i = load(x_row, i, 4)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t16 = t4 * rstd_value - t15
                    t16 = fma(t4, rstd_value, -t15)
                    # dx_i = t16 + t6 * t14
                    dx_i = fma(t6, t14, t16)
                    # t20 = t6 * rstd_value - t19
                    t20 = fma(t6, rstd_value, -t19)
                    store(dx_row, i, dx_i)
                    dweight_sum_i = load(dweight_sum_row, i, 4)
                    store(dweight_sum_row, i, fma(t20, dy_i, dweight_sum_i))
                    dbias_sum_i = load(dbias_sum_row, i, 4)
                    store(dbias_sum_row, i, dbias_sum_i + dy_i)
                i = 12
                dy_i = load_partial(dy_row, i, 1, 4)
                weight_i = load_partial(weight, i, 1, 4)
                # t1 = dy * weight
                t1 = dy_i * weight_i
                # t4 = t1 - t3
                t4 = t1 - t3
                x_i = load_partial(x_row, i, 1, 4)
                # t6 = x - mu_high_value
                t6 = x_i - mu_high_value
                # t16 = t4 * rstd_value - t15
                t16 = fma(t4, rstd_value, -t15)
                # dx_i = t16 + t6 * t14
                dx_i = fma(t6, t14, t16)
                # t20 = t6 * rstd_value - t19
                t20 = fma(t6, rstd_value, -t19)
                store_partial(dx_row, i, 1, dx_i)
                dweight_sum_i = load_partial(dweight_sum_row, i, 1, 4)
                store_partial(dweight_sum_row, i, 1, fma(t20, dy_i, dweight_sum_i))
                dbias_sum_i = load_partial(dbias_sum_row, i, 1, 4)
                store_partial(dbias_sum_row, i, 1, dbias_sum_i + dy_i)
    return 0


def lnc_layer_norm_backward_2(dweight_sum, dbias_sum, dweight, dbias, rows, begin, end):
    for tile in range(begin, end):
        i = tile * 16
        count = min(16, 13 - i)
        dweight_value_lanes = f64x(0.0, 16)
        dbias_value_lanes = f64x(0.0, 16)
        for block in range((rows + 63) // 64):
            dweight_sum_at = advance(dweight_sum, block * 13)
            dbias_sum_at = advance(dbias_sum, block * 13)
            dweight_sum_i = load_partial(dweight_sum_at, i, count, 16)
            dbias_sum_i = load_partial(dbias_sum_at, i, count, 16)
            dweight_value_lanes = dweight_value_lanes + dweight_sum_i
            dbias_value_lanes = dbias_value_lanes + dbias_sum_i
        # dweight_value = sum[..._blocks](dweight_sum)
        dweight_value = dweight_value_lanes
        # dbias_value = sum[..._blocks](dbias_sum)
        dbias_value = dbias_value_lanes
        store_partial(dweight, i, count, dweight_value)
        store_partial(dbias, i, count, dbias_value)
    return 0
