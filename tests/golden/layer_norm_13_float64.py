"""layer_norm: ... [d], d=13

target cpu:x86-64-v3
"""

from lncompile.emit.standins import (
    advance,
    as_float64,
    elements_to_boundary,
    f64x,
    fence,
    first,
    fma,
    is_given,
    keep_first,
    load,
    load_partial,
    maximum,
    read,
    rsqrt,
    square,
    store,
    store_partial,
    stream,
    total,
    write,
)


def lnc_layer_norm_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows, begin, end):
    keep = is_given(mu_high)
    streamed = rows >= 120989
    for row in range(begin, end):
        x_row = advance(x, row * 13)
        y_row = advance(y, row * 13)
        # moments of x about the mean of its first 8
        i = 0
        x_i = load(x_row, i, 8)
        x_first = as_float64(first(x_i))
        x_pivot = as_float64(x_first + total(x_i - x_first) / 8.0)
        x_sums = f64x(0.0, 16)
        x_squares = f64x(0.0, 16)
        i = 0
        x_i = load_partial(x_row, i, 13, 16)
        x_offset = keep_first(x_i - x_pivot, 13, 0.0)
        x_sums += x_offset
        x_squares = fma(x_offset, x_offset, x_squares)
        x_shift = total(x_sums) / 13.0
        x_spread = total(x_squares) / 13.0 - x_shift * x_shift
        # mu_high_value = mean_high[d](x)
        mu_high_value = x_pivot + x_shift
        # mu_low_value = mean_low[d](x)
        mu_low_value = x_pivot - mu_high_value + x_shift
        # var = variance[d](x)
        var = maximum(x_spread, 0.0)
        # t4 = var + 1e-05
        t4 = var + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        ordinary = x_shift * x_shift <= 4.0 * x_spread
        if ordinary:
            if streamed:
                start = min(elements_to_boundary(y_row, 32), 13)
                stop = start + (13 - start) // 8 * 8
                left = 13 - stop
                if start > 0:
                    i = 0
                    x_i = load_partial(x_row, i, start, 8)
                    # t1 = x - mu_high_value
                    t1 = x_i - mu_high_value
                    # t2 = t1 - mu_low_value
                    t2 = t1 - mu_low_value
                    weight_i = load_partial(weight, i, start, 8)
                    # t3 = t2 * weight
                    t3 = t2 * weight_i
                    bias_i = load_partial(bias, i, start, 8)
                    # y_i = t3 * rstd_value + bias
                    y_i = fma(t3, rstd_value, bias_i)
                    store_partial(y_row, i, start, y_i)
                for i in range(start, stop, 8):
                    x_i = load(x_row, i, 8)
                    # t1 = x - mu_high_value
                    t1 = x_i - mu_high_value
                    # t2 = t1 - mu_low_value
                    t2 = t1 - mu_low_value
                    weight_i = load(weight, i, 8)
                    # t3 = t2 * weight
                    t3 = t2 * weight_i
                    bias_i = load(bias, i, 8)
                    # y_i = t3 * rstd_value + bias
                    y_i = fma(t3, rstd_value, bias_i)
                    stream(y_row, i, y_i, 32)
                if left > 0:
                    i = stop
                    x_i = load_partial(x_row, i, left, 8)
                    # t1 = x - mu_high_value
                    t1 = x_i - mu_high_value
                    # t2 = t1 - mu_low_value
                    t2 = t1 - mu_low_value
                    weight_i = load_partial(weight, i, left, 8)
                    # t3 = t2 * weight
                    t3 = t2 * weight_i
                    bias_i = load_partial(bias, i, left, 8)
                    # y_i = t3 * rstd_value + bias
                    y_i = fma(t3, rstd_value, bias_i)
                    store_partial(y_row, i, left, y_i)
            else:
                for i in range(0, 8, 8):
                    x_i = load(x_row, i, 8)
                    # t1 = x - mu_high_value
                    t1 = x_i - mu_high_value
                    # t2 = t1 - mu_low_value
                    t2 = t1 - mu_low_value
                    weight_i = load(weight, i, 8)
                    # t3 = t2 * weight
                    t3 = t2 * weight_i
                    bias_i = load(bias, i, 8)
                    # y_i = t3 * rstd_value + bias
                    y_i = fma(t3, rstd_value, bias_i)
                    store(y_row, i, y_i)
                i = 8
                x_i = load_partial(x_row, i, 5, 8)
                # t1 = x - mu_high_value
                t1 = x_i - mu_high_value
                # t2 = t1 - mu_low_value
                t2 = t1 - mu_low_value
                weight_i = load_partial(weight, i, 5, 8)
                # t3 = t2 * weight
                t3 = t2 * weight_i
                bias_i = load_partial(bias, i, 5, 8)
                # y_i = t3 * rstd_value + bias
                y_i = fma(t3, rstd_value, bias_i)
                store_partial(y_row, i, 5, y_i)
        else:
            # moments of x about its mean
            i = 0
            x_wide = load(x_row, i, 8)
            x_wide_first = as_float64(first(x_wide))
            x_wide_offsets = f64x(0.0, 4)
            for i in range(0, 12, 4):
                x_wide = load(x_row, i, 4)
                x_wide_offsets += x_wide - x_wide_first
            i = 12
            x_wide = load_partial(x_row, i, 1, 4)
            x_wide_offsets += keep_first(x_wide - x_wide_first, 1, 0.0)
            x_wide_pivot = x_wide_first + total(x_wide_offsets) / 13.0
            x_wide_sums = f64x(0.0, 4)
            x_wide_squares = f64x(0.0, 4)
            for i in range(0, 12, 4):
                x_wide = load(x_row, i, 4)
                x_wide_offset = x_wide - x_wide_pivot
                x_wide_sums += x_wide_offset
                x_wide_squares = fma(x_wide_offset, x_wide_offset, x_wide_squares)
            i = 12
            x_wide = load_partial(x_row, i, 1, 4)
            x_wide_offset = keep_first(x_wide - x_wide_pivot, 1, 0.0)
            x_wide_sums += x_wide_offset
            x_wide_squares = fma(x_wide_offset, x_wide_offset, x_wide_squares)
            x_wide_shift = total(x_wide_sums) / 13.0
            x_wide_spread = total(x_wide_squares) / 13.0 - x_wide_shift * x_wide_shift
            # mu_high_value = mean_high[d](x)
            mu_high_value = x_wide_pivot + x_wide_shift
            # mu_low_value = mean_low[d](x)
            mu_low_value = x_wide_pivot - mu_high_value + x_wide_shift
            # var = variance[d](x)
            var = maximum(x_wide_spread, 0.0)
            # t4 = var + 1e-05
            t4 = var + 1e-05
            # rstd_value = rsqrt(t4)
            rstd_value = rsqrt(t4)
            for i in range(0, 12, 4):
                x_wide = load(x_row, i, 4)
                # t1 = x - mu_high_value
                t1_wide = x_wide - mu_high_value
                # t2 = t1 - mu_low_value
                t2_wide = t1_wide - mu_low_value
                weight_wide = load(weight, i, 4)
                # t3 = t2 * weight
                t3_wide = t2_wide * weight_wide
                bias_wide = load(bias, i, 4)
                # y_i = t3 * rstd_value + bias
                y_wide = fma(t3_wide, rstd_value, bias_wide)
                store(y_row, i, y_wide)
            i = 12
            x_wide = load_partial(x_row, i, 1, 4)
            # t1 = x - mu_high_value
            t1_wide = x_wide - mu_high_value
            # t2 = t1 - mu_low_value
            t2_wide = t1_wide - mu_low_value
            weight_wide = load_partial(weight, i, 1, 4)
            # t3 = t2 * weight
            t3_wide = t2_wide * weight_wide
            bias_wide = load_partial(bias, i, 1, 4)
            # y_i = t3 * rstd_value + bias
            y_wide = fma(t3_wide, rstd_value, bias_wide)
            store_partial(y_row, i, 1, y_wide)
        if keep:
            write(mu_high, row, mu_high_value)
            write(mu_low, row, mu_low_value)
            write(rstd, row, rstd_value)
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
    streamed = rows >= 120989
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
        for row in range(block * 64, min(block * 64 + 64, rows)):
            dy_row = advance(dy, row * 13)
            x_row = advance(x, row * 13)
            dx_row = advance(dx, row * 13)
            dweight_sum_row = advance(dweight_sum, block * 13)
            dbias_sum_row = advance(dbias_sum, block * 13)
            rstd_value = read(rstd, row)
            mu_high_value = read(mu_high, row)
            mu_low_value = read(mu_low, row)
            # t12 = square(rstd_value)
            t12 = square(rstd_value)
            t3_lanes = f64x(0.0, 16)
            t10_lanes = f64x(0.0, 16)
            i = 0
            dy_i = load_partial(dy_row, i, 13, 16)
            # t1 = dy * rstd_value
            t1 = dy_i * rstd_value
            weight_i = load_partial(weight, i, 13, 16)
            # t2 = t1 * weight
            t2 = t1 * weight_i
            x_i = load_partial(x_row, i, 13, 16)
            # t6 = x - mu_high_value
            t6 = x_i - mu_high_value
            # t7 = t6 - mu_low_value
            t7 = t6 - mu_low_value
            # t8 = t7 * weight
            t8 = t7 * weight_i
            t3_lanes += keep_first(t2, 13, 0.0)
            t10_lanes += keep_first(dy_i * t8, 13, 0.0)
            # t3 = sum[d](t2)
            t3 = total(t3_lanes)
            # t10 = sum[d](dy * t8)
            t10 = total(t10_lanes)
            # t4 = t3 * 0.07692307692307693
            t4 = t3 * 0.07692307692307693
            # t11 = t10 * rstd_value
            t11 = t10 * rstd_value
            # t13 = t11 * t12
            t13 = t11 * t12
            # t14 = t13 * (-0.07692307692307693)
            t14 = t13 * -0.07692307692307693
            if streamed:
                start = min(elements_to_boundary(dx_row, 32), 13)
                stop = start + (13 - start) // 8 * 8
                left = 13 - stop
                if start > 0:
                    i = 0
                    dy_i = load_partial(dy_row, i, start, 8)
                    # t1 = dy * rstd_value
                    t1 = dy_i * rstd_value
                    weight_i = load_partial(weight, i, start, 8)
                    # t2 = t1 * weight
                    t2 = t1 * weight_i
                    # t5 = t2 - t4
                    t5 = t2 - t4
                    x_i = load_partial(x_row, i, start, 8)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t7 = t6 - mu_low_value
                    t7 = t6 - mu_low_value
                    # dx_i = t5 + t7 * t14
                    dx_i = fma(t7, t14, t5)
                    store_partial(dx_row, i, start, dx_i)
                    dweight_sum_i = load_partial(dweight_sum_row, i, start, 8)
                    store_partial(dweight_sum_row, i, start, fma(t1, t7, dweight_sum_i))
                    dbias_sum_i = load_partial(dbias_sum_row, i, start, 8)
                    store_partial(dbias_sum_row, i, start, dbias_sum_i + dy_i)
                for i in range(start, stop, 8):
                    dy_i = load(dy_row, i, 8)
                    # t1 = dy * rstd_value
                    t1 = dy_i * rstd_value
                    weight_i = load(weight, i, 8)
                    # t2 = t1 * weight
                    t2 = t1 * weight_i
                    # t5 = t2 - t4
                    t5 = t2 - t4
                    x_i = load(x_row, i, 8)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t7 = t6 - mu_low_value
                    t7 = t6 - mu_low_value
                    # dx_i = t5 + t7 * t14
                    dx_i = fma(t7, t14, t5)
                    stream(dx_row, i, dx_i, 32)
                    dweight_sum_i = load(dweight_sum_row, i, 8)
                    store(dweight_sum_row, i, fma(t1, t7, dweight_sum_i))
                    dbias_sum_i = load(dbias_sum_row, i, 8)
                    store(dbias_sum_row, i, dbias_sum_i + dy_i)
                if left > 0:
                    i = stop
                    dy_i = load_partial(dy_row, i, left, 8)
                    # t1 = dy * rstd_value
                    t1 = dy_i * rstd_value
                    weight_i = load_partial(weight, i, left, 8)
                    # t2 = t1 * weight
                    t2 = t1 * weight_i
                    # t5 = t2 - t4
                    t5 = t2 - t4
                    x_i = load_partial(x_row, i, left, 8)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t7 = t6 - mu_low_value
                    t7 = t6 - mu_low_value
                    # dx_i = t5 + t7 * t14
                    dx_i = fma(t7, t14, t5)
                    store_partial(dx_row, i, left, dx_i)
                    dweight_sum_i = load_partial(dweight_sum_row, i, left, 8)
                    store_partial(dweight_sum_row, i, left, fma(t1, t7, dweight_sum_i))
                    dbias_sum_i = load_partial(dbias_sum_row, i, left, 8)
                    store_partial(dbias_sum_row, i, left, dbias_sum_i + dy_i)
            else:
                for i in range(0, 8, 8):
                    dy_i = load(dy_row, i, 8)
                    # t1 = dy * rstd_value
                    t1 = dy_i * rstd_value
                    weight_i = load(weight, i, 8)
                    # t2 = t1 * weight
                    t2 = t1 * weight_i
                    # t5 = t2 - t4
                    t5 = t2 - t4
                    x_i = load(x_row, i, 8)
                    # t6 = x - mu_high_value
                    t6 = x_i - mu_high_value
                    # t7 = t6 - mu_low_value
                    t7 = t6 - mu_low_value
                    # dx_i = t5 + t7 * t14
                    dx_i = fma(t7, t14, t5)
                    store(dx_row, i, dx_i)
                    dweight_sum_i = load(dweight_sum_row, i, 8)
                    store(dweight_sum_row, i, fma(t1, t7, dweight_sum_i))
                    dbias_sum_i = load(dbias_sum_row, i, 8)
                    store(dbias_sum_row, i, dbias_sum_i + dy_i)
                i = 8
                dy_i = load_partial(dy_row, i, 5, 8)
                # t1 = dy * rstd_value
                t1 = dy_i * rstd_value
                weight_i = load_partial(weight, i, 5, 8)
                # t2 = t1 * weight
                t2 = t1 * weight_i
                # t5 = t2 - t4
                t5 = t2 - t4
                x_i = load_partial(x_row, i, 5, 8)
                # t6 = x - mu_high_value
                t6 = x_i - mu_high_value
                # t7 = t6 - mu_low_value
                t7 = t6 - mu_low_value
                # dx_i = t5 + t7 * t14
                dx_i = fma(t7, t14, t5)
                store_partial(dx_row, i, 5, dx_i)
                dweight_sum_i = load_partial(dweight_sum_row, i, 5, 8)
                store_partial(dweight_sum_row, i, 5, fma(t1, t7, dweight_sum_i))
                dbias_sum_i = load_partial(dbias_sum_row, i, 5, 8)
                store_partial(dbias_sum_row, i, 5, dbias_sum_i + dy_i)
    if streamed:
        fence()
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
