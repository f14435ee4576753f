"""rms_norm: ... [d], d=33

target cuda:sm_90
"""

from lncompile.backends.cuda.intrinsics import (
    advance,
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
    get_float64,
    is_finite,
    is_given,
    is_moderate,
    keep,
    load,
    load_constant,
    load_once,
    pushed,
    put,
    quotient,
    remainder,
    rsqrt,
    share_float64,
    square,
    store,
    thread_index,
    total,
    unrolled_never,
    warp_total,
)


def lnc_rms_norm_forward(x, weight, y, rstd, rows):
    team = quotient(thread_index(), 32)
    member = remainder(thread_index(), 32)
    unit = block_index() * 4 + team
    if unit < rows:
        row = unit
        i_0 = member * 1
        inside_1 = member * 1 + 32 < 33
        i_1 = at_most(member * 1 + 32, 32)
        x_row = advance(x, row * 33)
        y_row = advance(y, row * 33)
        x_i0 = load_once(x_row, i_0, 1)
        x_i1 = load_once(x_row, i_1, 1)
        t3_lanes = f32x(0.0, 1)
        t3_lanes = t3_lanes + total(square(x_i0))
        t3_lanes = t3_lanes + keep(total(square(x_i1)), inside_1, 0.0)
        t3_lanes = warp_total(t3_lanes, 32)
        # t3 = mean[d](square(x))
        t3 = t3_lanes / 33.0
        # t4 = t3 + 1e-05
        t4 = t3 + 1e-05
        # rstd_value = rsqrt(t4)
        rstd_value = rsqrt(t4)
        ordinary = is_moderate(rstd_value) and is_finite(t4)
        if ordinary:
            weight_i0 = load_constant(weight, i_0, 1)
            # t1 = x * weight
            t1_i0 = x_i0 * weight_i0
            # y_i = t1 * rstd_value
            y_i0 = t1_i0 * rstd_value
            store(y_row, i_0, y_i0)
            if inside_1:
                weight_i1 = load_constant(weight, i_1, 1)
                # t1 = x * weight
                t1_i1 = x_i1 * weight_i1
                # y_i = t1 * rstd_value
                y_i1 = t1_i1 * rstd_value
                store(y_row, i_1, y_i1)
            if member == 0 and is_given(rstd):
                store(rstd, row, f32x(rstd_value, 1))
        if not ordinary:
            t3_wide_lanes = f64x(0.0, 1)
            x_wide_i0 = as_float64(first(x_i0))
            t3_wide_lanes = t3_wide_lanes + total(square(x_wide_i0))
            x_wide_i1 = as_float64(first(x_i1))
            t3_wide_lanes = t3_wide_lanes + keep(total(square(x_wide_i1)), inside_1, 0.0)
            t3_wide_lanes = warp_total(t3_wide_lanes, 32)
            # t3 = mean[d](square(x))
            t3_wide = t3_wide_lanes / 33.0
            # t4 = t3 + 1e-05
            t4_wide = t3_wide + 1e-05
            # rstd_value = rsqrt(t4)
            rstd_value_wide = rsqrt(t4_wide)
            weight_i0 = load_constant(weight, i_0, 1)
            y_out = f32x(0.0, 1)
            x_wide_i0 = as_float64(first(x_i0))
            weight_wide_i0 = as_float64(first(weight_i0))
            # t1 = x * weight
            t1_wide_i0 = x_wide_i0 * weight_wide_i0
            # y_i = t1 * rstd_value
            y_wide_i0 = t1_wide_i0 * rstd_value_wide
            y_out = pushed(y_out, as_float32(f64x(y_wide_i0, 1)))
            store(y_row, i_0, y_out)
            if inside_1:
                weight_i1 = load_constant(weight, i_1, 1)
                y_out = f32x(0.0, 1)
                x_wide_i1 = as_float64(first(x_i1))
                weight_wide_i1 = as_float64(first(weight_i1))
                # t1 = x * weight
                t1_wide_i1 = x_wide_i1 * weight_wide_i1
                # y_i = t1 * rstd_value
                y_wide_i1 = t1_wide_i1 * rstd_value_wide
                y_out = pushed(y_out, as_float32(f64x(y_wide_i1, 1)))
                store(y_row, i_1, y_out)
            if member == 0 and is_given(rstd):
                store(rstd, row, f64x(rstd_value_wide, 1))


def lnc_rms_norm_backward(x, weight, dy, rstd, dx, dweight_sum, rows, row_blocks, row_per):
    team = quotient(thread_index(), 32)
    member = remainder(thread_index(), 32)
    unit = block_index() * 4 + team
    if unit < row_blocks:
        block = unit
        i_0 = member * 1
        inside_1 = member * 1 + 32 < 33
        i_1 = at_most(member * 1 + 32, 32)
        dweight_sum_i0 = f32x(0.0, 1)
        dweight_sum_i1 = f32x(0.0, 1)
        for row in range(block * row_per, at_most(block * row_per + row_per, rows)):
            x_row = advance(x, row * 33)
            dy_row = advance(dy, row * 33)
            dx_row = advance(dx, row * 33)
            x_i0 = load_once(x_row, i_0, 1)
            dy_i0 = load_once(dy_row, i_0, 1)
            x_i1 = load_once(x_row, i_1, 1)
            dy_i1 = load_once(dy_row, i_1, 1)
            rstd_value = load_constant(rstd, row, 1)
            # t5 = square(rstd_value)
            t5 = square(rstd_value)
            t3_lanes = f32x(0.0, 1)
            weight_i0 = load_constant(weight, i_0, 1)
            # t1 = x * weight
            t1_i0 = x_i0 * weight_i0
            t3_lanes = t3_lanes + total(dy_i0 * t1_i0)
            weight_i1 = load_constant(weight, i_1, 1)
            # t1 = x * weight
            t1_i1 = x_i1 * weight_i1
            t3_lanes = t3_lanes + keep(total(dy_i1 * t1_i1), inside_1, 0.0)
            t3_lanes = warp_total(t3_lanes, 32)
            # t3 = sum[d](dy * t1)
            t3 = t3_lanes
            # t4 = t3 * rstd_value
            t4 = t3 * rstd_value
            # t6 = t4 * t5
            t6 = t4 * t5
            # t7 = t6 * (-0.030303030303030304)
            t7 = t6 * -0.030303030303030304
            ordinary = fits_float32(t7) and is_moderate(rstd_value)
            if ordinary:
                weight_i0 = load_constant(weight, i_0, 1)
                # t8 = x * t7
                t8_i0 = x_i0 * t7
                # t9 = dy * rstd_value
                t9_i0 = dy_i0 * rstd_value
                # dx_i = t8 + t9 * weight
                dx_i0 = fma(t9_i0, weight_i0, t8_i0)
                store(dx_row, i_0, dx_i0)
                dweight_sum_i0 = dweight_sum_i0 + t9_i0 * x_i0
                if inside_1:
                    weight_i1 = load_constant(weight, i_1, 1)
                    # t8 = x * t7
                    t8_i1 = x_i1 * t7
                    # t9 = dy * rstd_value
                    t9_i1 = dy_i1 * rstd_value
                    # dx_i = t8 + t9 * weight
                    dx_i1 = fma(t9_i1, weight_i1, t8_i1)
                    store(dx_row, i_1, dx_i1)
                    dweight_sum_i1 = dweight_sum_i1 + t9_i1 * x_i1
            if not ordinary:
                rstd_value_wide = as_float64(load_constant(rstd, row, 1))
                # t5 = square(rstd_value)
                t5_wide = square(rstd_value_wide)
                t3_wide_lanes = f64x(0.0, 1)
                weight_i0 = load_constant(weight, i_0, 1)
                dy_wide_i0 = as_float64(first(dy_i0))
                x_wide_i0 = as_float64(first(x_i0))
                weight_wide_i0 = as_float64(first(weight_i0))
                # t1 = x * weight
                t1_wide_i0 = x_wide_i0 * weight_wide_i0
                t3_wide_lanes = t3_wide_lanes + total(dy_wide_i0 * t1_wide_i0)
                weight_i1 = load_constant(weight, i_1, 1)
                dy_wide_i1 = as_float64(first(dy_i1))
                x_wide_i1 = as_float64(first(x_i1))
                weight_wide_i1 = as_float64(first(weight_i1))
                # t1 = x * weight
                t1_wide_i1 = x_wide_i1 * weight_wide_i1
                t3_wide_lanes = t3_wide_lanes + keep(total(dy_wide_i1 * t1_wide_i1), inside_1, 0.0)
                t3_wide_lanes = warp_total(t3_wide_lanes, 32)
                # t3 = sum[d](dy * t1)
                t3_wide = t3_wide_lanes
                # t4 = t3 * rstd_value
                t4_wide = t3_wide * rstd_value_wide
                # t6 = t4 * t5
                t6_wide = t4_wide * t5_wide
                # t7 = t6 * (-0.030303030303030304)
                t7_wide = t6_wide * -0.030303030303030304
                weight_i0 = load_constant(weight, i_0, 1)
                dx_out = f32x(0.0, 1)
                x_wide_i0 = as_float64(first(x_i0))
                dy_wide_i0 = as_float64(first(dy_i0))
                weight_wide_i0 = as_float64(first(weight_i0))
                # t8 = x * t7
                t8_wide_i0 = x_wide_i0 * t7_wide
                # t9 = dy * rstd_value
                t9_wide_i0 = dy_wide_i0 * rstd_value_wide
                # dx_i = t8 + t9 * weight
                dx_wide_i0 = fma(t9_wide_i0, weight_wide_i0, t8_wide_i0)
                dx_out = pushed(dx_out, as_float32(f64x(dx_wide_i0, 1)))
                dweight_sum_i0 = (
                    pushed(dweight_sum_i0, first(dweight_sum_i0) + as_float32(f64x(t9_wide_i0 * x_wide_i0, 1)))  # noqa: E501
                )
                store(dx_row, i_0, dx_out)
                if inside_1:
                    weight_i1 = load_constant(weight, i_1, 1)
                    dx_out = f32x(0.0, 1)
                    x_wide_i1 = as_float64(first(x_i1))
                    dy_wide_i1 = as_float64(first(dy_i1))
                    weight_wide_i1 = as_float64(first(weight_i1))
                    # t8 = x * t7
                    t8_wide_i1 = x_wide_i1 * t7_wide
                    # t9 = dy * rstd_value
                    t9_wide_i1 = dy_wide_i1 * rstd_value_wide
                    # dx_i = t8 + t9 * weight
                    dx_wide_i1 = fma(t9_wide_i1, weight_wide_i1, t8_wide_i1)
                    dx_out = pushed(dx_out, as_float32(f64x(dx_wide_i1, 1)))
                    dweight_sum_i1 = (
                        pushed(dweight_sum_i1, first(dweight_sum_i1) + as_float32(f64x(t9_wide_i1 * x_wide_i1, 1)))  # noqa: E501
                    )
                    store(dx_row, i_1, dx_out)
        sums = advance(dweight_sum, block * 33)
        store(sums, i_0, dweight_sum_i0)
        if inside_1:
            store(sums, i_1, dweight_sum_i1)


def lnc_rms_norm_backward_2(dweight_sum, dweight, rows, row_blocks, row_per):
    share_float64(256)
    team = remainder(thread_index(), 32)
    member = quotient(thread_index(), 32)
    unit = block_index() * 32 + team
    there = unit < 33
    unit = at_most(unit, 33 - 1)
    i = unit
    dweight_value_lanes = f64x(0.0, 1)
    for step in range(quotient(member, 1), unrolled_never(row_blocks), 8):
        block = step
        dweight_sum_at = advance(dweight_sum, block * 33)
        dweight_sum_i = as_float64(load(dweight_sum_at, i, 1))
        dweight_value_lanes = dweight_value_lanes + total(dweight_sum_i)
    put(0 + thread_index(), dweight_value_lanes)
    barrier()
    dweight_value_lanes = get_float64(0 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(32 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(64 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(96 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(128 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(160 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(192 + team)
    dweight_value_lanes = dweight_value_lanes + get_float64(224 + team)
    # dweight_value = sum[..._blocks](dweight_sum)
    dweight_value = dweight_value_lanes
    if there and member == 0:
        store(dweight, i, f64x(dweight_value, 1))
