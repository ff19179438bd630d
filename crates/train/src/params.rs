//! Trainable parameters by module path, and how an update goes back into its parameter.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, ExecutionError, GradientCheckpointingStrategy, Tensor, TensorData};

/// The dotted path of the parameter a visitor or mapper is at, such as `up.adapter.Lora.a`.
///
/// The names of enum variants are part of it.
#[derive(Default)]
pub(crate) struct ModulePath(Vec<String>);

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_string());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn dotted(&self) -> String {
        self.0.join(".")
    }
}

/// Puts an updated plain value back as a leaf that requires its gradient.
///
/// `strategy` is the old value's: operands of one operation must share it.
pub(crate) fn leaf<const D: usize>(
    updated: Tensor<D>,
    strategy: Option<GradientCheckpointingStrategy>,
) -> Tensor<D> {
    let leaf = Tensor::from_inner(updated);
    let leaf = match strategy {
        Some(strategy) => leaf.with_gradient_checkpointing_strategy(strategy),
        None => leaf,
    };
    leaf.require_grad()
}

/// What a trainable parameter looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParamSpec {
    pub path: String,
    pub shape: Vec<usize>,
    pub dtype: DType,
}

/// The trainable parameters of `module`, in module order.
pub(crate) fn trainable_specs<M: Module>(module: &M) -> Vec<ParamSpec> {
    let mut visitor = Specs::default();
    module.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct Specs {
    path: ModulePath,
    found: Vec<ParamSpec>,
}

impl ModuleVisitor for Specs {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let value = param.val();
            self.found.push(ParamSpec {
                path: self.path.dotted(),
                shape: value.dims().to_vec(),
                dtype: value.dtype(),
            });
        }
    }
}

/// The values of the trainable parameters of `module`, read to the host.
pub(crate) fn read_trainable<M: Module>(
    module: &M,
) -> Result<Vec<(String, TensorData)>, ExecutionError> {
    let mut visitor = Values { path: ModulePath::default(), found: Ok(Vec::new()) };
    module.visit(&mut visitor);
    visitor.found
}

struct Values {
    path: ModulePath,
    found: Result<Vec<(String, TensorData)>, ExecutionError>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(found) = &mut self.found else { return };
        if param.is_require_grad() {
            match param.val().inner().try_into_data() {
                Ok(data) => found.push((self.path.dotted(), data)),
                Err(error) => self.found = Err(error),
            }
        }
    }
}

/// Replaces the trainable parameters of `module` by what `take` gives for their paths.
///
/// The data must have the parameter's shape; a parameter for which `take` gives none is kept.
pub(crate) fn replace_trainable<M: Module>(
    module: M,
    take: impl FnMut(&str) -> Option<TensorData>,
) -> M {
    module.map(&mut Replace { path: ModulePath::default(), take })
}

struct Replace<F> {
    path: ModulePath,
    take: F,
}

impl<F: FnMut(&str) -> Option<TensorData>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let Some(data) = (self.take)(&self.path.dotted()) else { return param };
        param.map(|old| {
            let dtype = data.dtype();
            let value = Tensor::from_data(data, (&old.device().inner(), dtype));
            leaf(value, old.gradient_checkpointing_strategy())
        })
    }
}
