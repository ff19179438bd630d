//! `rope`.

use burn::tensor::{Device, Tensor};
use rekindle_kernels::{RopeTable, rope};
use rekindle_testkit::{assert_close, device};

use crate::comparison::{check, constant, host, values};

const HEAD_DIM: usize = 6;
const HEADS: usize = 2;
const FREQUENCIES: [f64; 3] = [1.0, 0.3, 0.07];

fn table(rows: &[Vec<u32>], device: &Device) -> RopeTable {
    RopeTable::new(rows, &vec![FREQUENCIES.to_vec(); rows.len()], 1.0, device)
}

/// `x · cos + rotate_half(x) · sin`, the form of the transformers library.
fn plain(x: Tensor<4>, table: &RopeTable) -> Tensor<4> {
    let half = table.cos.dims()[3];
    let low = x.clone().narrow(3, 0, half);
    let high = x.clone().narrow(3, half, half);
    let turned = Tensor::cat(vec![low.clone(), high.clone()], 3);
    let rotated = Tensor::cat(vec![high.neg(), low], 3);
    let twice = |x: &Tensor<4>| Tensor::cat(vec![x.clone(), x.clone()], 3);
    let turned = turned * twice(&table.cos) + rotated * twice(&table.sin);
    let rest = x.dims()[3] - 2 * half;
    if rest == 0 { turned } else { Tensor::cat(vec![turned, x.narrow(3, 2 * half, rest)], 3) }
}

fn check_rows(rows: &[Vec<u32>], batch: usize) {
    let seq = rows[0].len();
    let x = |x: &Tensor<1>| x.clone().reshape([batch, seq, HEADS, HEAD_DIM]);
    check(
        |v| rope(x(&v[0]), &table(rows, &v[0].device())).flatten(0, 3),
        |v| plain(x(&v[0]), &table(rows, &v[0].device())).flatten(0, 3),
        &[values(batch * seq * HEADS * HEAD_DIM, 1)],
        1e-1,
    );
}

#[test]
fn rope_with_one_table_for_all_sequences_agrees() {
    check_rows(&[vec![0, 1, 2, 9]], 2);
}

#[test]
fn rope_with_a_table_for_each_sequence_agrees() {
    check_rows(&[vec![0, 1, 2, 0], vec![5, 6, 100, 101]], 2);
}

#[test]
fn rope_over_more_tokens_than_one_task_takes_agrees() {
    check_rows(&[(0..21).collect()], 2);
}

#[test]
fn rope_on_a_permuted_input_agrees() {
    let rows = [vec![3, 1, 4]];
    let x = |x: &Tensor<1>| x.clone().reshape([2, HEADS, 3, HEAD_DIM]).swap_dims(1, 2);
    check(
        |v| rope(x(&v[0]), &table(&rows, &v[0].device())).flatten(0, 3),
        |v| plain(x(&v[0]), &table(&rows, &v[0].device())).flatten(0, 3),
        &[values(2 * HEADS * 3 * HEAD_DIM, 1)],
        1e-1,
    );
}

#[test]
fn rope_of_a_part_of_each_head_agrees() {
    let rows = [vec![3, 1, 4]];
    for half in [1, 2] {
        let table = |x: &Tensor<1>| {
            RopeTable::new(&rows, &[FREQUENCIES[..half].to_vec()], 1.0, &x.device())
        };
        let x = |x: &Tensor<1>| x.clone().reshape([2, 3, HEADS, HEAD_DIM]);
        check(
            |v| rope(x(&v[0]), &table(&v[0])).flatten(0, 3),
            |v| plain(x(&v[0]), &table(&v[0])).flatten(0, 3),
            &[values(2 * 3 * HEADS * HEAD_DIM, 1)],
            1e-1,
        );
    }
}

#[test]
fn a_magnitude_lengthens_what_is_rotated_forward_and_backward() {
    let rows = [vec![3, 1, 4]];
    let x = |x: &Tensor<1>| x.clone().reshape([2, 3, HEADS, HEAD_DIM]);
    let of = |x: &Tensor<1>, magnitude| {
        RopeTable::new(&rows, &[FREQUENCIES.to_vec()], magnitude, &x.device())
    };
    check(
        |v| rope(x(&v[0]), &of(&v[0], 1.5)).flatten(0, 3),
        |v| plain(x(&v[0]), &of(&v[0], 1.0)).flatten(0, 3) * 1.5,
        &[values(2 * 3 * HEADS * HEAD_DIM, 1)],
        1e-1,
    );
}

#[test]
fn rope_is_the_rotation_matrix_of_its_position() {
    let positions = [0u32, 1, 17, 4000];
    let device = device();
    let half = HEAD_DIM / 2;
    // Row i of the result is Σⱼ R[i][j] x[j], where x runs over the unit vectors.
    for column in 0..HEAD_DIM {
        let mut unit = vec![0.0; positions.len() * HEAD_DIM];
        unit.iter_mut().skip(column).step_by(HEAD_DIM).for_each(|x| *x = 1.0);
        let x = Tensor::<1>::from_floats(unit.as_slice(), &device);
        let x = x.reshape([1, positions.len(), 1, HEAD_DIM]);
        let actual = host(rope(x, &table(&[positions.to_vec()], &device)));
        let mut expected = vec![0.0; positions.len() * HEAD_DIM];
        for (row, &position) in expected.chunks_exact_mut(HEAD_DIM).zip(&positions) {
            let pair = column % half;
            let angle = f64::from(position as f32 * FREQUENCIES[pair] as f32);
            let sine = if column < half { angle.sin() } else { -angle.sin() };
            row[column] = angle.cos() as f32;
            row[(column + half) % HEAD_DIM] = sine as f32;
        }
        assert_close(&actual, &expected, 1e-6, 1e-6);
    }
}

#[test]
fn scores_after_rope_depend_on_the_distance_alone() {
    let device = device();
    let shape = [1, 1, 1, HEAD_DIM];
    let (q, k) = (constant(shape, 1, &device), constant(shape, 2, &device));
    let score = |m: u32, n: u32| {
        let q = rope(q.clone(), &table(&[vec![m]], &device));
        host((q * rope(k.clone(), &table(&[vec![n]], &device))).sum())
    };
    assert_close(&score(7, 3), &score(54, 50), 1e-5, 1e-5);
    assert_close(&score(3, 7), &score(50, 54), 1e-5, 1e-5);
}

#[test]
#[should_panic(expected = "rows of positions differ in length")]
fn a_table_of_ragged_rows_is_refused() {
    table(&[vec![0, 1], vec![0]], &device());
}
