//! The output projection and its cross-entropy, in chunks of rows: full logits never exist.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Scalar, TensorMetadata, get_device_settings};
use burn::tensor::{DType, FloatDType, IndexingUpdateOp, Int, IntDType, Shape, Slice, Tensor};

use crate::ops::LlmOps;
use crate::primitive::{
    cap, dims, is_half, log_sum_exp, narrow, narrowed, reshape, scale, widened,
};

/// Logits held at once: a chunk of rows has at most this many.
pub const CHUNK_LOGITS: usize = 1 << 23;

/// How the cross-entropy of a row of logits is taken.
///
/// With `z` the logits and `lse = log Σ exp z`, the loss of a row is
/// `lse − (1 − ε) · z[target] − ε · mean(z) + λ · lse²`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// The logits are `cap · tanh(logit / cap)` (Gemma 2, Riviere et al. 2024, arXiv:2408.00118, §2).
    pub softcap: Option<f64>,
    /// ε, the part of the target's probability that is spread evenly over the vocabulary (Szegedy
    /// et al. 2015, arXiv:1512.00567, §7).
    pub label_smoothing: f64,
    /// λ, the weight of the square of the log-normaliser (Chowdhery et al. 2022,
    /// arXiv:2204.02311, §5).
    pub z_loss: f64,
}

impl CrossEntropy {
    /// The plain cross-entropy of capped logits.
    pub(crate) fn capped(softcap: Option<f32>) -> Self {
        Self { softcap: softcap.map(f64::from), ..Self::default() }
    }
}

/// `Σᵢ maskᵢ · −log softmax(hiddenᵢ · weightᵀ)[targetᵢ]`, a sum in nats, or the variant of it that
/// `rule` tells: `[1]`.
///
/// `hidden [n, hidden]`, `weight [vocab, hidden]`, `targets [n]`, `mask [n]`. At most 2²³ logits
/// exist at a time. The gradient to `hidden` is made in the forward pass, as in Liger (Hsu et al.
/// 2024, arXiv:2410.10989, §3.2), so the backward pass costs one multiplication; the gradient to
/// `weight` exists only where it is trained.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    rule: CrossEntropy,
) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::linear_cross_entropy(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        targets.into_dispatch(),
        mask.into_dispatch(),
        rule,
    ))
}

/// `log softmax(cap(hiddenᵢ · weightᵀ))[targetᵢ]` of every token, in nats: `[n]`.
///
/// Shapes as in [`linear_cross_entropy()`], `softcap` as in [`CrossEntropy`]. The backward pass recomputes each chunk of logits.
pub fn token_logps(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as LlmOps>::token_logps(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        targets.into_dispatch(),
        softcap.map(|cap| cap as f32),
    ))
}

/// What the logits are made of, and which of them is each row's target.
pub(crate) struct Inputs<B: Backend> {
    pub hidden: FloatTensor<B>,
    pub weight: FloatTensor<B>,
    pub targets: IntTensor<B>,
    pub rule: CrossEntropy,
}

/// Row ranges of at most [`CHUNK_LOGITS`] logits.
pub(crate) fn chunks(n: usize, vocab: usize) -> impl Iterator<Item = core::ops::Range<usize>> {
    let rows = (CHUNK_LOGITS / vocab.max(1)).clamp(1, n.max(1));
    (0..n).step_by(rows).map(move |start| start..(start + rows).min(n))
}

/// The logit of each row's target: `[rows, 1]`.
///
/// A masked sum and no gather: with one, under burn-cubecl-fusion 0.22.1 on CUDA, the kernel of the
/// product reads out of bounds and the loss is wrong; the gather seems to be fused into the product
/// whose result it reads.
fn chosen<B: Backend>(logits: FloatTensor<B>, targets: IntTensor<B>) -> FloatTensor<B> {
    let [_, vocab] = dims::<2>(&logits);
    let device = logits.device();
    let ids = B::int_arange(0..vocab as i64, &device, IntDType::from(targets.dtype()));
    let ids = B::int_reshape(ids, Shape::from([1, vocab]));
    let others = B::int_not_equal(targets, ids, get_device_settings::<B>(&device).bool_dtype);
    B::float_sum_dim(B::float_mask_fill(logits, others, Scalar::from(0.0f32)), 1)
}

/// One chunk: logits, the slope of their cap, their log-sum-exp and the targets as a column.
struct Chunk<B: Backend> {
    hidden: FloatTensor<B>,
    logits: FloatTensor<B>,
    slope: Option<FloatTensor<B>>,
    lse: FloatTensor<B>,
    targets: IntTensor<B>,
}

impl<B: Backend> Chunk<B> {
    fn new(inputs: &Inputs<B>, rows: core::ops::Range<usize>) -> Self {
        let len = rows.len();
        let hidden = narrow::<B>(inputs.hidden.clone(), 2, 0, rows.clone());
        let logits = B::float_matmul(hidden.clone(), B::float_transpose(inputs.weight.clone()));
        // Sums over a vocabulary of halves would be too coarse.
        let (logits, slope) =
            cap::<B>(widened::<B>(logits), inputs.rule.softcap.map(|it| it as f32));
        let targets = B::int_slice(inputs.targets.clone(), &[Slice::from(rows)]);
        let targets = B::int_reshape(targets, Shape::from([len, 1]));
        let lse = log_sum_exp::<B>(logits.clone(), 1);
        Self { hidden, logits, slope, lse, targets }
    }

    /// `log p(target)` of each row: `[rows, 1]`.
    fn logps(&self) -> FloatTensor<B> {
        B::float_sub(chosen::<B>(self.logits.clone(), self.targets.clone()), self.lse.clone())
    }

    /// The loss of each row by `rule`: `[rows, 1]`.
    fn losses(&self, rule: CrossEntropy) -> FloatTensor<B> {
        let mut loss = B::float_neg(self.logps());
        if rule.label_smoothing > 0.0 {
            let smoothing = rule.label_smoothing as f32;
            let mean = B::float_mean_dim(self.logits.clone(), 1);
            let even = B::float_sub(self.lse.clone(), mean);
            loss = B::float_add(scale::<B>(loss, 1.0 - smoothing), scale::<B>(even, smoothing));
        }
        if rule.z_loss > 0.0 {
            let square = B::float_mul(self.lse.clone(), self.lse.clone());
            loss = B::float_add(loss, scale::<B>(square, rule.z_loss as f32));
        }
        loss
    }

    /// The gradient of `Σ coefficient · loss` to the logits before their cap, with
    /// `p = softmax(z)`: `coefficient · ((1 + 2 λ lse) · p − (1 − ε) · onehot − ε / vocab)`, times
    /// the slope of the cap; and the chunk's hidden states.
    fn d_logits(
        self,
        coefficient: FloatTensor<B>,
        rule: CrossEntropy,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let [_, vocab] = dims::<2>(&self.logits);
        let p = B::float_exp(B::float_sub(self.logits, self.lse.clone()));
        let mut factor = coefficient.clone();
        if rule.z_loss > 0.0 {
            let slope = scale::<B>(self.lse, 2.0 * rule.z_loss as f32);
            factor = B::float_add(factor.clone(), B::float_mul(factor, slope));
        }
        let mut weighted = B::float_mul(p, factor);
        let smoothing = rule.label_smoothing as f32;
        if smoothing > 0.0 {
            let even = scale::<B>(coefficient.clone(), smoothing / vocab as f32);
            weighted = B::float_sub(weighted, even);
        }
        let minus = scale::<B>(coefficient, smoothing - 1.0);
        let grad = B::float_scatter(1, weighted, self.targets, minus, IndexingUpdateOp::Add);
        let grad = match self.slope {
            Some(slope) => B::float_mul(grad, slope),
            None => grad,
        };
        (narrowed::<B>(grad, self.hidden.dtype()), self.hidden)
    }
}

pub(crate) fn reference_logps<B: Backend>(inputs: &Inputs<B>) -> FloatTensor<B> {
    let ([n, _], [vocab, _]) = (dims::<2>(&inputs.hidden), dims::<2>(&inputs.weight));
    let parts = chunks(n, vocab).map(|rows| Chunk::<B>::new(inputs, rows).logps()).collect();
    reshape::<B, 1>(B::float_cat(parts, 0), [n])
}

pub(crate) fn reference<B: Backend>(inputs: &Inputs<B>, mask: FloatTensor<B>) -> FloatTensor<B> {
    let ([n, _], [vocab, _]) = (dims::<2>(&inputs.hidden), dims::<2>(&inputs.weight));
    let losses = chunks(n, vocab).map(|rows| Chunk::<B>::new(inputs, rows).losses(inputs.rule));
    let losses = reshape::<B, 1>(B::float_cat(losses.collect(), 0), [n]);
    B::float_sum(B::float_mul(losses, widened::<B>(mask)))
}

/// Gradients of `Σ coefficientᵢ · lossᵢ`, and the sum itself.
fn weighted_grad<B: Backend>(
    inputs: Inputs<B>,
    coefficient: FloatTensor<B>,
    train_weight: bool,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let ([n, _], [vocab, width]) = (dims::<2>(&inputs.hidden), dims::<2>(&inputs.weight));
    let device = inputs.hidden.device();
    let half = is_half(&inputs.hidden);
    let dtype = FloatDType::from(if half { DType::F32 } else { inputs.hidden.dtype() });
    let coefficient = widened::<B>(coefficient);
    let mut total = B::float_zeros(Shape::from([1]), &device, dtype);
    let shape = if train_weight { [vocab, width] } else { [1, 1] };
    let mut d_weight = B::float_zeros(Shape::from(shape), &device, dtype);
    let mut d_hidden = Vec::new();
    for rows in chunks(n, vocab) {
        let len = rows.len();
        let factor = narrow::<B>(coefficient.clone(), 1, 0, rows.clone());
        let factor = reshape::<B, 2>(factor, [len, 1]);
        let chunk = Chunk::<B>::new(&inputs, rows);
        let losses = chunk.losses(inputs.rule);
        total = B::float_add(total, B::float_sum(B::float_mul(losses, factor.clone())));
        let (d_logits, hidden) = chunk.d_logits(factor, inputs.rule);
        if train_weight {
            let part = B::float_matmul(B::float_transpose(d_logits.clone()), hidden);
            d_weight = B::float_add(d_weight, widened::<B>(part));
        }
        d_hidden.push(B::float_matmul(d_logits, inputs.weight.clone()));
    }
    let d_weight = narrowed::<B>(d_weight, inputs.weight.dtype());
    (total, B::float_cat(d_hidden, 0), d_weight)
}

pub(crate) fn reference_grad<B: Backend>(
    inputs: Inputs<B>,
    mask: FloatTensor<B>,
    train_weight: bool,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    weighted_grad::<B>(inputs, mask, train_weight)
}

pub(crate) fn reference_logps_backward<B: Backend>(
    grad: FloatTensor<B>,
    inputs: Inputs<B>,
    train_weight: bool,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let minus = B::float_neg(grad);
    let (_, d_hidden, d_weight) = weighted_grad::<B>(inputs, minus, train_weight);
    (d_hidden, d_weight)
}
