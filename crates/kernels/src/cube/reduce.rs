//! Reductions over the units of a cube.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The sum of every unit's `value`, for all of them; `scratch` has a place for each unit, whose
/// number is a power of two.
#[cube]
pub(super) fn cube_sum(value: f32, scratch: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = (units / 2).runtime();
    while width > 0 {
        if unit < width {
            let other = scratch[unit + width];
            scratch[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    let total = scratch[0];
    sync_cube();
    total
}

/// The largest of the units' values, for all of them, as [`cube_sum`].
#[cube]
pub(super) fn cube_max(value: f32, scratch: &mut Shared<[f32]>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut width = (units / 2).runtime();
    while width > 0 {
        if unit < width {
            let other = scratch[unit + width];
            scratch[unit] = max(scratch[unit], other);
        }
        sync_cube();
        width /= 2;
    }
    let largest = scratch[0];
    sync_cube();
    largest
}
