"""layer_norm: ... [d], d=1024

target cuda:sm_90
"""

from lncompile.backends.cuda.intrinsics import (
    advance,
    as_bfloat16,
    as_float32,
    as_float64,
    at_most,
    barrier,
    block_index,
    f32x,
    f64x,
    first,
    fits_float32,
    fma,
    get_float32,
    get_float64,
    is_finite,
    is_given,
    is_moderate,
    load,
    load_constant,
    load_once,
    maximum,
    pushed,
    put,
    quotient,
    remainder,
    rounding_error,
    rsqrt,
    share_float32,
    share_float64,
    square,
    store,
    thread_index,
    total,
    unrolled_never,
    warp_total,
)


def lnc_layer_norm_forward(x, weight, bias, y, mu_high, mu_low, rstd, rows):
    share_float32(6)
    share_float64(6)
    team = 0
    member = thread_index()
    unit = block_index() * 1 + team
    if unit < rows:
        row = unit
        i_0 = member * 8
        i_1 = member * 8 + 512
        x_row = advance(x, row * 1024)
        y_row = advance(y, row * 1024)
        x_i0 = as_float32(load_once(x_row, i_0, 8))
        x_i1 = as_float32(load_once(x_row, i_1, 8))
        # moments of x
        x_i = as_float32(load_once(x_row, 0, 8))
        x_first = first(x_i)
        x_offsets = f32x(0.0, 1)
        x_offsets = x_offsets + total(x_i0 - x_first)
        x_offsets = x_offsets + total(x_i1 - x_first)
        x_offsets = warp_total(x_offsets, 32)
        if remainder(member, 32) == 0:
            put(0 + quotient(member, 32), x_offsets)
        barrier()
        x_offsets = get_float32(0 + remainder(member, 2))
        x_offsets = warp_total(x_offsets, 2)
        x_pivot = x_first + x_offsets / 1024.0
        x_sums = f32x(0.0, 1)
        x_squares = f32x(0.0, 1)
        x_offset = x_i0 - x_pivot
        x_sums = x_sums + total(x_offset)
        x_squares = x_squares + total(square(x_offset))
        x_offset = x_i1 - x_pivot
        x_sums = x_sums + total(x_offset)
        x_squares = x_squares + total(square(x_offset))
        x_sums = warp_total(x_sums, 32)
        x_squares = warp_total(x_squares, 32)
        if remainder(member, 32) == 0:
            put(2 + quotient(member, 32), x_sums)
            put(4 + quotient(member, 32), x_squares)
        barrier()
        x_sums = get_float32(2 + remainder(member, 2))
        x_sums = warp_total(x_sums, 2)
        x_squares = get_float32(4 + remainder(member, 2))
        x_squares = warp_total(x_squares, 2)
        x_shift = x_sums / 1024.0
        x_spread = x_squares / 1024.0 - square(x_shift)
        # mu_high_value = mean_high[d](x)
        mu_high_value = x_pivot + x_shift
        # mu_low_value = mean_low[d](x)
        mu_low_value = rounding_error(x_pivot, x_shift)
        # var = variance[d](x)
        var = maximum(x_spread, 0.0)
        # t2 = var + 1e-05
        t2 = var + 1e-05
        # rstd_value = rsqrt(t2)
        rstd_value = rsqrt(t2)
        # t4 = mu_low_value * rstd_value
        t4 = mu_low_value * rstd_value
        ordinary = (
            is_finite(x_spread)
            and fits_float32(mu_high_value)
            and is_moderate(rstd_value)
            and fits_float32(t4)
            and is_finite(t2)
        )
        if ordinary:
            # t1 = x - mu_high_value
            t1_i0 = x_i0 - mu_high_value
            # t5 = t1 * rstd_value - t4
            t5_i0 = fma(t1_i0, rstd_value, -t4)
            weight_i0 = as_float32(load_constant(weight, i_0, 8))
            bias_i0 = as_float32(load_constant(bias, i_0, 8))
            # y_i = t5 * weight + bias
            y_i0 = fma(t5_i0, weight_i0, bias_i0)
            store(y_row, i_0, y_i0)
            # t1 = x - mu_high_value
            t1_i1 = x_i1 - mu_high_value
            # t5 = t1 * rstd_value - t4
            t5_i1 = fma(t1_i1, rstd_value, -t4)
            weight_i1 = as_float32(load_constant(weight, i_1, 8))
            bias_i1 = as_float32(load_constant(bias, i_1, 8))
            # y_i = t5 * weight + bias
            y_i1 = fma(t5_i1, weight_i1, bias_i1)
            store(y_row, i_1, y_i1)
            if member == 0:
                if is_given(mu_high):
                    store(mu_high, row, f32x(mu_high_value, 1))
                if is_given(mu_low):
                    store(mu_low, row, f32x(mu_low_value, 1))
                if is_given(rstd):
                    store(rstd, row, f32x(rstd_value, 1))
        if not ordinary:
            # moments of x
            x_i = as_float32(load_once(x_row, 0, 8))
            x_wide = as_float64(first(x_i))
            x_wide_first = first(x_wide)
            x_wide_offsets = f64x(0.0, 1)
            for _turn in range(unrolled_never(8)):
                x_wide_i0 = as_float64(first(x_i0))
                x_wide_offsets = x_wide_offsets + total(x_wide_i0 - x_wide_first)
                x_i0 = pushed(x_i0, first(x_i0))
            for _turn in range(unrolled_never(8)):
                x_wide_i1 = as_float64(first(x_i1))
                x_wide_offsets = x_wide_offsets + total(x_wide_i1 - x_wide_first)
                x_i1 = pushed(x_i1, first(x_i1))
            x_wide_offsets = warp_total(x_wide_offsets, 32)
            if remainder(member, 32) == 0:
                put(0 + quotient(member, 32), x_wide_offsets)
            barrier()
            x_wide_offsets = get_float64(0 + remainder(member, 2))
            x_wide_offsets = warp_total(x_wide_offsets, 2)
            x_wide_pivot = x_wide_first + x_wide_offsets / 1024.0
            x_wide_sums = f64x(0.0, 1)
            x_wide_squares = f64x(0.0, 1)
            for _turn in range(unrolled_never(8)):
                x_wide_i0 = as_float64(first(x_i0))
                x_wide_offset = x_wide_i0 - x_wide_pivot
                x_wide_sums = x_wide_sums + total(x_wide_offset)
                x_wide_squares = x_wide_squares + total(square(x_wide_offset))
                x_i0 = pushed(x_i0, first(x_i0))
            for _turn in range(unrolled_never(8)):
                x_wide_i1 = as_float64(first(x_i1))
                x_wide_offset = x_wide_i1 - x_wide_pivot
                x_wide_sums = x_wide_sums + total(x_wide_offset)
                x_wide_squares = x_wide_squares + total(square(x_wide_offset))
                x_i1 = pushed(x_i1, first(x_i1))
            x_wide_sums = warp_total(x_wide_sums, 32)
            x_wide_squares = warp_total(x_wide_squares, 32)
            if remainder(member, 32) == 0:
                put(2 + quotient(member, 32), x_wide_sums)
                put(4 + quotient(member, 32), x_wide_squares)
            barrier()
            x_wide_sums = get_float64(2 + remainder(member, 2))
            x_wide_sums = warp_total(x_wide_sums, 2)
            x_wide_squares = get_float64(4 + remainder(member, 2))
            x_wide_squares = warp_total(x_wide_squares, 2)
            x_wide_shift = x_wide_sums / 1024.0
            x_wide_spread = x_wide_squares / 1024.0 - square(x_wide_shift)
            # mu_high_value = mean_high[d](x)
            mu_high_value_wide = as_float64(as_float32(x_wide_pivot + x_wide_shift))
            # mu_low_value = mean_low[d](x)
            mu_low_value_wide = (
                x_wide_pivot - as_float64(as_float32(x_wide_pivot + x_wide_shift)) + x_wide_shift
            )
            # var = variance[d](x)
            var_wide = maximum(x_wide_spread, 0.0)
            # t2 = var + 1e-05
            t2_wide = var_wide + 1e-05
            # rstd_value = rsqrt(t2)
            rstd_value_wide = rsqrt(t2_wide)
            # t4 = mu_low_value * rstd_value
            t4_wide = mu_low_value_wide * rstd_value_wide
            weight_i0 = as_float32(load_constant(weight, i_0, 8))
            bias_i0 = as_float32(load_constant(bias, i_0, 8))
            y_out = as_bfloat16(f32x(0.0, 8))
            for _turn in range(unrolled_never(8)):
                x_wide_i0 = as_float64(first(x_i0))
                # t1 = x - mu_high_value
                t1_wide_i0 = x_wide_i0 - mu_high_value_wide
                # t5 = t1 * rstd_value - t4
                t5_wide_i0 = fma(t1_wide_i0, rstd_value_wide, -t4_wide)
                weight_wide_i0 = as_float64(first(weight_i0))
                bias_wide_i0 = as_float64(first(bias_i0))
                # y_i = t5 * weight + bias
                y_wide_i0 = fma(t5_wide_i0, weight_wide_i0, bias_wide_i0)
                y_out = pushed(y_out, as_bfloat16(f64x(y_wide_i0, 1)))
                x_i0 = pushed(x_i0, first(x_i0))
                weight_i0 = pushed(weight_i0, first(weight_i0))
                bias_i0 = pushed(bias_i0, first(bias_i0))
            store(y_row, i_0, y_out)
            weight_i1 = as_float32(load_constant(weight, i_1, 8))
            bias_i1 = as_float32(load_constant(bias, i_1, 8))
            y_out = as_bfloat16(f32x(0.0, 8))
            for _turn in range(unrolled_never(8)):
                x_wide_i1 = as_float64(first(x_i1))
                # t1 = x - mu_high_value
                t1_wide_i1 = x_wide_i1 - mu_high_value_wide
                # t5 = t1 * rstd_value - t4
                t5_wide_i1 = fma(t1_wide_i1, rstd_value_wide, -t4_wide)
                weight_wide_i1 = as_float64(first(weight_i1))
                bias_wide_i1 = as_float64(first(bias_i1))
                # y_i = t5 * weight + bias
                y_wide_i1 = fma(t5_wide_i1, weight_wide_i1, bias_wide_i1)
                y_out = pushed(y_out, as_bfloat16(f64x(y_wide_i1, 1)))
                x_i1 = pushed(x_i1, first(x_i1))
                weight_i1 = pushed(weight_i1, first(weight_i1))
                bias_i1 = pushed(bias_i1, first(bias_i1))
            store(y_row, i_1, y_out)
            if member == 0:
                if is_given(mu_high):
                    store(mu_high, row, f64x(mu_high_value_wide, 1))
                if is_given(mu_low):
                    store(mu_low, row, f64x(mu_low_value_wide, 1))
                if is_given(rstd):
                    store(rstd, row, f64x(rstd_value_wide, 1))


def lnc_layer_norm_backward(
    x,  # bfloat16
    weight,  # bfloat16
    dy,  # bfloat16
    mu_high,  # float32
    mu_low,  # float32
    rstd,  # float32
    dx,  # bfloat16
    dweight_sum,  # float32
    dbias_sum,  # float32
    rows,
    row_blocks,
    row_per,
):
    share_float32(4)
    share_float64(4)
    team = 0
    member = thread_index()
    unit = block_index() * 1 + team
    if unit < row_blocks:
        block = unit
        i_0 = member * 8
        i_1 = member * 8 + 512
        dweight_sum_i0 = f32x(0.0, 8)
        dweight_sum_i1 = f32x(0.0, 8)
        dbias_sum_i0 = f32x(0.0, 8)
        dbias_sum_i1 = f32x(0.0, 8)
        for row in range(block * row_per, at_most(block * row_per + row_per, rows)):
            dy_row = advance(dy, row * 1024)
            x_row = advance(x, row * 1024)
            dx_row = advance(dx, row * 1024)
            dy_i0 = as_float32(load_once(dy_row, i_0, 8))
            x_i0 = as_float32(load_once(x_row, i_0, 8))
            dy_i1 = as_float32(load_once(dy_row, i_1, 8))
            x_i1 = as_float32(load_once(x_row, i_1, 8))
            rstd_value = load_constant(rstd, row, 1)
            mu_low_value = load_constant(mu_low, row, 1)
            mu_high_value = load_constant(mu_high, row, 1)
            # t12 = square(rstd_value)
            t12 = square(rstd_value)
            # t19 = mu_low_value * rstd_value
            t19 = mu_low_value * rstd_value
            t2_lanes = f32x(0.0, 1)
            t8_lanes = f32x(0.0, 1)
            weight_i0 = as_float32(load_constant(weight, i_0, 8))
            # t1 = dy * weight
            t1_i0 = dy_i0 * weight_i0
            # t6 = x - mu_high_value
            t6_i0 = x_i0 - mu_high_value
            t2_lanes = t2_lanes + total(t1_i0)
            t8_lanes = t8_lanes + total(t1_i0 * t6_i0)
            weight_i1 = as_float32(load_constant(weight, i_1, 8))
            # t1 = dy * weight
            t1_i1 = dy_i1 * weight_i1
            # t6 = x - mu_high_value
            t6_i1 = x_i1 - mu_high_value
            t2_lanes = t2_lanes + total(t1_i1)
            t8_lanes = t8_lanes + total(t1_i1 * t6_i1)
            t2_lanes = warp_total(t2_lanes, 32)
            t8_lanes = warp_total(t8_lanes, 32)
            if remainder(member, 32) == 0:
                put(0 + quotient(member, 32), t2_lanes)
                put(2 + quotient(member, 32), t8_lanes)
            barrier()
            t2_lanes = get_float32(0 + remainder(member, 2))
            t2_lanes = warp_total(t2_lanes, 2)
            t8_lanes = get_float32(2 + remainder(member, 2))
            t8_lanes = warp_total(t8_lanes, 2)
            # t2 = sum[d](t1)
            t2 = t2_lanes
            # t8 = sum[d](t1 * t6)
            t8 = t8_lanes
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
            ordinary = (
                fits_float32(mu_high_value)
                and fits_float32(t3)
                and is_moderate(rstd_value)
                and fits_float32(t15)
                and fits_float32(t14)
                and fits_float32(t19)
            )
            if ordinary:
                weight_i0 = as_float32(load_constant(weight, i_0, 8))
                # t1 = dy * weight
                t1_i0 = dy_i0 * weight_i0
                # t4 = t1 - t3
                t4_i0 = t1_i0 - t3
                # t6 = x - mu_high_value
                t6_i0 = x_i0 - mu_high_value
                # t16 = t4 * rstd_value - t15
                t16_i0 = fma(t4_i0, rstd_value, -t15)
                # dx_i = t16 + t6 * t14
                dx_i0 = fma(t6_i0, t14, t16_i0)
                # t20 = t6 * rstd_value - t19
                t20_i0 = fma(t6_i0, rstd_value, -t19)
                store(dx_row, i_0, dx_i0)
                dweight_sum_i0 = dweight_sum_i0 + t20_i0 * dy_i0
                dbias_sum_i0 = dbias_sum_i0 + dy_i0
                weight_i1 = as_float32(load_constant(weight, i_1, 8))
                # t1 = dy * weight
                t1_i1 = dy_i1 * weight_i1
                # t4 = t1 - t3
                t4_i1 = t1_i1 - t3
                # t6 = x - mu_high_value
                t6_i1 = x_i1 - mu_high_value
                # t16 = t4 * rstd_value - t15
                t16_i1 = fma(t4_i1, rstd_value, -t15)
                # dx_i = t16 + t6 * t14
                dx_i1 = fma(t6_i1, t14, t16_i1)
                # t20 = t6 * rstd_value - t19
                t20_i1 = fma(t6_i1, rstd_value, -t19)
                store(dx_row, i_1, dx_i1)
                dweight_sum_i1 = dweight_sum_i1 + t20_i1 * dy_i1
                dbias_sum_i1 = dbias_sum_i1 + dy_i1
            if not ordinary:
                rstd_value_wide = as_float64(load_constant(rstd, row, 1))
                mu_low_value_wide = as_float64(load_constant(mu_low, row, 1))
                mu_high_value_wide = as_float64(load_constant(mu_high, row, 1))
                # t12 = square(rstd_value)
                t12_wide = square(rstd_value_wide)
                # t19 = mu_low_value * rstd_value
                t19_wide = mu_low_value_wide * rstd_value_wide
                t2_wide_lanes = f64x(0.0, 1)
                t8_wide_lanes = f64x(0.0, 1)
                weight_i0 = as_float32(load_constant(weight, i_0, 8))
                for _turn in range(unrolled_never(8)):
                    dy_wide_i0 = as_float64(first(dy_i0))
                    weight_wide_i0 = as_float64(first(weight_i0))
                    # t1 = dy * weight
                    t1_wide_i0 = dy_wide_i0 * weight_wide_i0
                    x_wide_i0 = as_float64(first(x_i0))
                    # t6 = x - mu_high_value
                    t6_wide_i0 = x_wide_i0 - mu_high_value_wide
                    t2_wide_lanes = t2_wide_lanes + total(t1_wide_i0)
                    t8_wide_lanes = t8_wide_lanes + total(t1_wide_i0 * t6_wide_i0)
                    dy_i0 = pushed(dy_i0, first(dy_i0))
                    weight_i0 = pushed(weight_i0, first(weight_i0))
                    x_i0 = pushed(x_i0, first(x_i0))
                weight_i1 = as_float32(load_constant(weight, i_1, 8))
                for _turn in range(unrolled_never(8)):
                    dy_wide_i1 = as_float64(first(dy_i1))
                    weight_wide_i1 = as_float64(first(weight_i1))
                    # t1 = dy * weight
                    t1_wide_i1 = dy_wide_i1 * weight_wide_i1
                    x_wide_i1 = as_float64(first(x_i1))
                    # t6 = x - mu_high_value
                    t6_wide_i1 = x_wide_i1 - mu_high_value_wide
                    t2_wide_lanes = t2_wide_lanes + total(t1_wide_i1)
                    t8_wide_lanes = t8_wide_lanes + total(t1_wide_i1 * t6_wide_i1)
                    dy_i1 = pushed(dy_i1, first(dy_i1))
                    weight_i1 = pushed(weight_i1, first(weight_i1))
                    x_i1 = pushed(x_i1, first(x_i1))
                t2_wide_lanes = warp_total(t2_wide_lanes, 32)
                t8_wide_lanes = warp_total(t8_wide_lanes, 32)
                if remainder(member, 32) == 0:
                    put(0 + quotient(member, 32), t2_wide_lanes)
                    put(2 + quotient(member, 32), t8_wide_lanes)
                barrier()
                t2_wide_lanes = get_float64(0 + remainder(member, 2))
                t2_wide_lanes = warp_total(t2_wide_lanes, 2)
                t8_wide_lanes = get_float64(2 + remainder(member, 2))
                t8_wide_lanes = warp_total(t8_wide_lanes, 2)
                # t2 = sum[d](t1)
                t2_wide = t2_wide_lanes
                # t8 = sum[d](t1 * t6)
                t8_wide = t8_wide_lanes
                # t3 = t2 * 0.0009765625
                t3_wide = t2_wide * 0.0009765625
                # t9 = t2 * mu_low_value
                t9_wide = t2_wide * mu_low_value_wide
                # t10 = t8 - t9
                t10_wide = t8_wide - t9_wide
                # t11 = t10 * rstd_value
                t11_wide = t10_wide * rstd_value_wide
                # t13 = t11 * t12
                t13_wide = t11_wide * t12_wide
                # t14 = t13 * (-0.0009765625)
                t14_wide = t13_wide * -0.0009765625
                # t15 = mu_low_value * t14
                t15_wide = mu_low_value_wide * t14_wide
                weight_i0 = as_float32(load_constant(weight, i_0, 8))
                dx_out = as_bfloat16(f32x(0.0, 8))
                for _turn in range(unrolled_never(8)):
                    dy_wide_i0 = as_float64(first(dy_i0))
                    weight_wide_i0 = as_float64(first(weight_i0))
                    # t1 = dy * weight
                    t1_wide_i0 = dy_wide_i0 * weight_wide_i0
                    # t4 = t1 - t3
                    t4_wide_i0 = t1_wide_i0 - t3_wide
                    x_wide_i0 = as_float64(first(x_i0))
                    # t6 = x - mu_high_value
                    t6_wide_i0 = x_wide_i0 - mu_high_value_wide
                    # t16 = t4 * rstd_value - t15
                    t16_wide_i0 = fma(t4_wide_i0, rstd_value_wide, -t15_wide)
                    # dx_i = t16 + t6 * t14
                    dx_wide_i0 = fma(t6_wide_i0, t14_wide, t16_wide_i0)
                    # t20 = t6 * rstd_value - t19
                    t20_wide_i0 = fma(t6_wide_i0, rstd_value_wide, -t19_wide)
                    dx_out = pushed(dx_out, as_bfloat16(f64x(dx_wide_i0, 1)))
                    dweight_sum_i0 = (
                        pushed(dweight_sum_i0, first(dweight_sum_i0) + as_float32(f64x(t20_wide_i0 * dy_wide_i0, 1)))  # noqa: E501
                    )
                    dbias_sum_i0 = pushed(dbias_sum_i0, first(dbias_sum_i0) + as_float32(f64x(dy_wide_i0, 1)))
                    dy_i0 = pushed(dy_i0, first(dy_i0))
                    weight_i0 = pushed(weight_i0, first(weight_i0))
                    x_i0 = pushed(x_i0, first(x_i0))
                store(dx_row, i_0, dx_out)
                weight_i1 = as_float32(load_constant(weight, i_1, 8))
                dx_out = as_bfloat16(f32x(0.0, 8))
                for _turn in range(unrolled_never(8)):
                    dy_wide_i1 = as_float64(first(dy_i1))
                    weight_wide_i1 = as_float64(first(weight_i1))
                    # t1 = dy * weight
                    t1_wide_i1 = dy_wide_i1 * weight_wide_i1
                    # t4 = t1 - t3
                    t4_wide_i1 = t1_wide_i1 - t3_wide
                    x_wide_i1 = as_float64(first(x_i1))
                    # t6 = x - mu_high_value
                    t6_wide_i1 = x_wide_i1 - mu_high_value_wide
                    # t16 = t4 * rstd_value - t15
                    t16_wide_i1 = fma(t4_wide_i1, rstd_value_wide, -t15_wide)
                    # dx_i = t16 + t6 * t14
                    dx_wide_i1 = fma(t6_wide_i1, t14_wide, t16_wide_i1)
                    # t20 = t6 * rstd_value - t19
                    t20_wide_i1 = fma(t6_wide_i1, rstd_value_wide, -t19_wide)
                    dx_out = pushed(dx_out, as_bfloat16(f64x(dx_wide_i1, 1)))
                    dweight_sum_i1 = (
                        pushed(dweight_sum_i1, first(dweight_sum_i1) + as_float32(f64x(t20_wide_i1 * dy_wide_i1, 1)))  # noqa: E501
                    )
                    dbias_sum_i1 = pushed(dbias_sum_i1, first(dbias_sum_i1) + as_float32(f64x(dy_wide_i1, 1)))
                    dy_i1 = pushed(dy_i1, first(dy_i1))
                    weight_i1 = pushed(weight_i1, first(weight_i1))
                    x_i1 = pushed(x_i1, first(x_i1))
                store(dx_row, i_1, dx_out)
            barrier()
        sums = advance(dweight_sum, block * 1024)
        store(sums, i_0, dweight_sum_i0)
        store(sums, i_1, dweight_sum_i1)
        sums = advance(dbias_sum, block * 1024)
        store(sums, i_0, dbias_sum_i0)
        store(sums, i_1, dbias_sum_i1)


def lnc_layer_norm_backward_2(dweight_sum, dbias_sum, dweight, dbias, rows, row_blocks, row_per):
    share_float64(512)
    team = remainder(thread_index(), 32)
    member = quotient(thread_index(), 32)
    unit = block_index() * 32 + team
    there = unit < 1024
    unit = at_most(unit, 1024 - 1)
    i = unit
    dweight_value_lanes = f64x(0.0, 1)
    dbias_value_lanes = f64x(0.0, 1)
    for step in range(quotient(member, 1), unrolled_never(row_blocks), 8):
        block = step
        dweight_sum_at = advance(dweight_sum, block * 1024)
        dbias_sum_at = advance(dbias_sum, block * 1024)
        dweight_sum_i = as_float64(load(dweight_sum_at, i, 1))
        dbias_sum_i = as_float64(load(dbias_sum_at, i, 1))
        dweight_value_lanes = dweight_value_lanes + total(dweight_sum_i)
        dbias_value_lanes = dbias_value_lanes + total(dbias_sum_i)
    put(0 + thread_index(), dweight_value_lanes)
    put(256 + thread_index(), dbias_value_lanes)
    barrier()
    dweight_value_lanes = get_float64(0 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(32 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(64 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(96 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(128 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(160 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(192 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(224 + team)
    dbias_value_lanes = get_float64(256 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(288 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(320 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(352 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(384 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(416 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(448 + team)
    dbias_value_lanes = dbias_value_lanes + get_float64(480 + team)
    # dweight_value = sum[..._blocks](dweight_sum)
    dweight_value = dweight_value_lanes
    # dbias_value = sum[..._blocks](dbias_sum)
    dbias_value = dbias_value_lanes
    if there and member == 0:
        store(dweight, i, f64x(dweight_value, 1))
        store(dbias, i, f64x(dbias_value, 1))
