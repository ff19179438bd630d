//! Matrix products into slices that exist already.

use burn_flex::FlexTensor;

use super::tensor;
use crate::primitive::dims;

/// A strided matrix over a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose element `(i, j)` is `data[i · row_stride + j · col_stride]`.
    pub(super) fn new(
        data: &'a [f32],
        [rows, cols]: [usize; 2],
        [row_stride, col_stride]: [usize; 2],
    ) -> Self {
        let last = rows.saturating_sub(1) * row_stride + cols.saturating_sub(1) * col_stride;
        assert!(rows * cols == 0 || last < data.len(), "matrix reaches past its slice");
        Self { data, rows, cols, row_stride, col_stride }
    }

    /// A row-major matrix that fills its slice.
    pub(super) fn dense(data: &'a [f32], shape: [usize; 2]) -> Self {
        Self::new(data, shape, [shape[1], 1])
    }

    /// The transposed view.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether a product may use all threads; work inside a parallel loop must not.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Threads {
    All,
    One,
}

/// `out = keep · out + factor · a · b`, with `out` row-major.
pub(super) fn gemm(
    out: &mut [f32],
    keep: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    factor: f32,
    threads: Threads,
) {
    assert_eq!(a.cols, b.rows, "matrix product of {} columns and {} rows", a.cols, b.rows);
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(out.len(), m * n, "result of a matrix product has the wrong size");
    let parallelism = match threads {
        Threads::All if m * n * k > 1 << 20 => gemm::Parallelism::Rayon(0),
        _ => gemm::Parallelism::None,
    };
    #[expect(unsafe_code, reason = "gemm takes raw pointers")]
    // SAFETY: `Matrix::new` checked that every element of `a` and `b` lies inside its slice, `out`
    // has exactly `m · n` elements and is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            keep,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A two-dimensional tensor as a matrix, without copying transposed views.
fn with_matrix<R>(x: &FlexTensor, run: impl FnOnce(Matrix<'_>) -> R) -> R {
    let shape = dims::<2>(x);
    let layout = x.layout();
    if let [row, col] = *layout.strides()
        && row >= 0
        && col >= 0
    {
        let data = &x.storage::<f32>()[layout.start_offset()..];
        return run(Matrix::new(data, shape, [row as usize, col as usize]));
    }
    let dense = x.to_contiguous();
    run(Matrix::dense(super::floats(&dense), shape))
}

/// `a · b + c · d`.
pub(super) fn matmul_sum(
    a: &FlexTensor,
    b: &FlexTensor,
    c: &FlexTensor,
    d: &FlexTensor,
) -> FlexTensor {
    let ([m, _], [_, n]) = (dims::<2>(a), dims::<2>(b));
    let mut out = vec![0.0; m * n];
    for (keep, left, right) in [(false, a, b), (true, c, d)] {
        with_matrix(left, |left| {
            with_matrix(right, |right| gemm(&mut out, keep, left, right, 1.0, Threads::All));
        });
    }
    tensor(out, [m, n])
}
