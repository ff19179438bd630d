//! The state of one parameter: a count of updates and named tensors.

use burn::tensor::{DType, Device, ExecutionError, Int, Tensor, TensorData};

/// The state of one parameter.
#[derive(Debug, Clone)]
pub(crate) struct ParamState {
    /// Updates so far.
    pub steps: u64,
    /// What the tensors are.
    pub slots: Vec<Slot>,
    /// One tensor for each slot.
    pub tensors: Vec<StateTensor>,
}

/// Name, shape and type of one tensor of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its name, the suffix of its path in a checkpoint.
    pub name: &'static str,
    /// Its shape in a checkpoint; in memory it is flat.
    pub shape: Vec<usize>,
    /// F32 for numbers, U8 for codes.
    pub dtype: DType,
}

/// One tensor of a state, flat.
#[derive(Debug, Clone)]
pub(crate) enum StateTensor {
    /// f32 numbers on the device.
    Numbers(Tensor<1>),
    /// Codes of one byte on the device.
    Codes(Tensor<1, Int>),
    /// Either of them on the host.
    Host(TensorData),
}

impl ParamState {
    /// A state before the first update.
    pub fn zeros(slots: Vec<Slot>, device: &Device) -> Self {
        let zeros = |slot: &Slot| match slot.dtype {
            DType::U8 => StateTensor::Codes(Tensor::zeros([slot.elements()], (device, DType::U8))),
            _ => StateTensor::Numbers(Tensor::zeros([slot.elements()], (device, DType::F32))),
        };
        let tensors = slots.iter().map(zeros).collect();
        Self { steps: 0, slots, tensors }
    }
}

impl Slot {
    /// A slot of f32 numbers.
    pub fn numbers(name: &'static str, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), dtype: DType::F32 }
    }

    /// A slot of codes of one byte.
    pub fn codes(name: &'static str, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), dtype: DType::U8 }
    }

    /// Numbers in the slot.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl StateTensor {
    /// The same on the device.
    pub fn on(self, device: &Device) -> Self {
        match self {
            Self::Host(data) if data.dtype() == DType::U8 => {
                Self::Codes(Tensor::from_data(data, (device, DType::U8)))
            }
            Self::Host(data) => Self::Numbers(Tensor::from_data(data, (device, DType::F32))),
            other => other,
        }
    }

    /// The same on the host.
    ///
    /// A tensor that the device does not hand over stays where it is: the device has failed, and
    /// the loop's next read says so.
    pub fn on_host(self) -> Self {
        match self.to_data() {
            Ok(data) => Self::Host(data),
            Err(_) => self,
        }
    }

    /// The tensor's bytes, flat.
    pub fn to_data(&self) -> Result<TensorData, ExecutionError> {
        match self {
            Self::Numbers(tensor) => tensor.try_to_data(),
            Self::Codes(tensor) => tensor.try_to_data(),
            Self::Host(data) => Ok(data.clone()),
        }
    }

    /// The numbers of a slot that was declared to hold them.
    pub fn numbers(self) -> Tensor<1> {
        match self {
            Self::Numbers(tensor) => tensor,
            other => unreachable!("a slot of numbers on the device holds {other:?}"),
        }
    }

    /// The codes of a slot that was declared to hold them.
    pub fn codes(self) -> Tensor<1, Int> {
        match self {
            Self::Codes(tensor) => tensor,
            other => unreachable!("a slot of codes on the device holds {other:?}"),
        }
    }
}

/// The tensors of a state whose slots are `N` of numbers.
pub(crate) fn all_numbers<const N: usize>(state: Vec<StateTensor>) -> [Tensor<1>; N] {
    let numbers: Vec<_> = state.into_iter().map(StateTensor::numbers).collect();
    numbers.try_into().expect("a state has one tensor for each slot of its rule")
}
