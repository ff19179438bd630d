//! Stretches of a model that are run again in the backward pass, so that only their input is kept.
//!
//! Chen et al. 2016 (arXiv:1604.06174), §3: a stretch's graph is built, run backward and freed
//! before that of the stretch before it is built.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// A stretch of a model from one tensor `[batch, seq, hidden]` to the next.
pub trait Stretch: Clone + Debug + Send + Sync + 'static {
    /// What it is made of; its trained parameters get their gradients.
    type Module: Module;

    /// Its parameters.
    fn module(&self) -> &Self::Module;

    /// The stretch off the autodiff device, for the pass whose graph is not kept.
    fn plain(&self, x: Tensor<3>) -> Tensor<3>;

    /// `[1]`, on the graph of `x` and of the parameters, with the gradients of
    /// `Σ grad ⊙ stretch(x)`; its value is not read.
    ///
    /// Random numbers are those of [`Stretch::plain`].
    fn pull(&self, x: Tensor<3>, grad: Tensor<3>) -> Tensor<1>;
}

/// Where the input of a stretch waits for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// On its device.
    #[default]
    Device,
    /// In the host's memory; each way costs a copy, and the forward pass waits for it.
    Host,
}

/// `stretch(x)`; the backward pass runs it again instead of keeping what it made.
///
/// `x` is on an autodiff device, tracked or not; if nothing in the stretch is trained and `x` is
/// not tracked, neither is the result. The gradients of the parameters appear beside those of the
/// rest after one `backward` over all of it. A parameter of the stretch must not take part in the
/// same graph outside of recomputed stretches.
///
/// # Panics
/// If the tensor's backend is none that this crate was built for.
pub fn recomputed<S: Stretch>(stretch: S, x: Tensor<3>, keep: Keep) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = record::<burn::backend::Flex, S>(&stretch, &x, keep) {
        return y;
    }
    #[cfg(feature = "ndarray")]
    if let Some(y) = record::<burn::backend::NdArray, S>(&stretch, &x, keep) {
        return y;
    }
    #[cfg(feature = "cube")]
    if let Some(y) = record::<burn::backend::Cube, S>(&stretch, &x, keep) {
        return y;
    }
    panic!("recomputation needs an autodiff device of a backend that is switched on, found {x:?}");
}

/// What waits for the backward pass.
#[derive(Clone, Debug)]
struct Saved<S> {
    stretch: S,
    input: Input,
    /// Whether the input's own gradient is wanted.
    tracked: bool,
}

#[derive(Clone, Debug)]
enum Input {
    Device(Tensor<3>),
    Host(TensorData, burn::tensor::Device),
}

impl Input {
    fn keep(x: &Tensor<3>, keep: Keep) -> Self {
        match keep {
            Keep::Device => Self::Device(x.clone()),
            Keep::Host => Self::Host(x.to_data(), x.device()),
        }
    }

    fn restore(self) -> Tensor<3> {
        match self {
            Self::Device(x) => x,
            Self::Host(data, device) => {
                let dtype = data.dtype();
                Tensor::from_data(data, (&device, dtype))
            }
        }
    }
}

type Tracked<B> = Autodiff<B, NoCheckpointing>;

/// Records the stretch as one step; `None` where `x` is not a tensor of `B`.
fn record<B, S>(stretch: &S, x: &Tensor<3>, keep: Keep) -> Option<Tensor<3>>
where
    B: Backend,
    S: Stretch,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Tracked<B>>,
{
    x.clone().try_into_primitive::<Tracked<B>>().ok()?;
    let tracked = x.is_tracked();
    if !tracked && !trains(stretch.module()) {
        return Some(Tensor::from_inner(stretch.plain(x.clone().inner())));
    }
    // A step needs a parent; where `x` is a constant, a leaf that nobody reads stands in.
    let parent = if tracked { x.clone() } else { x.clone().require_grad() };
    let parent = parent.try_into_primitive::<Tracked<B>>().ok()?;
    let prep = Backward::<B, 1>::prepare::<NoCheckpointing>(
        Recomputed::<S>(std::marker::PhantomData),
        [parent.node()],
    );
    let x = x.clone().inner();
    let y = stretch.plain(x.clone());
    let plain =
        |y: Tensor<3>| y.try_into_primitive::<B>().expect("the stretch stays on its backend");
    let y = match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let input = Input::keep(&x, keep);
            let saved = Saved { stretch: stretch.clone(), input, tracked };
            prep.finish(saved, plain(y))
        }
        OpsKind::UnTracked(prep) => prep.finish(plain(y)),
    };
    Some(Tensor::from_primitive::<Tracked<B>>(y))
}

#[derive(Debug)]
struct Recomputed<S>(std::marker::PhantomData<S>);

impl<B, S> Backward<B, 1> for Recomputed<S>
where
    B: Backend,
    S: Stretch,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Tracked<B>>,
{
    type State = Saved<S>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = Tensor::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let Saved { stretch, input, tracked } = ops.state;
        let x = Tensor::from_inner(input.restore());
        let x = if tracked { x.require_grad() } else { x };
        let total = stretch.pull(x.clone(), grad);
        if !total.is_tracked() {
            return;
        }
        let mut inner = total.backward();
        let [parent] = ops.parents;
        if let (Some(node), Some(grad)) = (parent, x.grad_remove(&mut inner)) {
            let grad = grad.try_into_primitive::<B>().expect("a gradient is on its backend");
            grads.register::<B>(node.id, grad);
        }
        let mut hand_over = HandOver { inner, grads, backend: std::marker::PhantomData::<B> };
        stretch.module().visit(&mut hand_over);
    }
}

/// Moves the gradients of a stretch's parameters to those of the whole graph.
struct HandOver<'a, B> {
    inner: burn::tensor::Gradients,
    grads: &'a mut Gradients,
    backend: std::marker::PhantomData<B>,
}

impl<B> ModuleVisitor for HandOver<'_, B>
where
    B: Backend,
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Tracked<B>>,
{
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val();
        let Some(grad) = value.grad_remove(&mut self.inner) else { return };
        let value = value.try_into_primitive::<Tracked<B>>();
        let value = value.expect("a trained parameter is on the autodiff device");
        let grad = grad.try_into_primitive::<B>().expect("a gradient is on its backend");
        self.grads.register::<B>(value.id(), grad);
    }
}

/// Whether any parameter of `module` requires its gradient.
fn trains<M: Module>(module: &M) -> bool {
    struct Any(bool);
    impl ModuleVisitor for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut any = Any(false);
    module.visit(&mut any);
    any.0
}
