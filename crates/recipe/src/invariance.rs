//! Whether the ways of computing a step give one gradient, on the user's own model and rows.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use rekindle_align::Sft;
use rekindle_data::{Padding, Sample, TokenBatch, collate};
use rekindle_kernels::length_multiple;
use rekindle_models::{Decoder, Recompute};
use rekindle_train::Objective;
use serde::Serialize;

use crate::error::RunError;
use crate::plan::Plan;
use crate::prepared::Prepared;
use crate::run::loader;

/// One way of computing the step beside the plainest one.
#[derive(Clone, Debug, Serialize)]
pub struct Deviation {
    /// The way.
    pub what: String,
    /// How much the mean loss differs, in nats.
    pub loss: f64,
    /// The largest difference of a gradient's element, over the largest element.
    pub gradient: f64,
    /// Differences above this are too large for the number format.
    pub limit: f64,
}

impl Deviation {
    /// Whether the differences are those of rounding.
    pub fn passes(&self) -> bool {
        self.gradient <= self.limit && self.loss.abs() <= self.limit
    }
}

/// What was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Invariance {
    /// Rows of the step.
    pub rows: usize,
    /// Tokens with a loss.
    pub targets: usize,
    /// Mean loss of the plainest way.
    pub loss: f64,
    /// The other ways.
    pub deviations: Vec<Deviation>,
}

/// Loss and gradient of a step.
struct Gradient {
    loss: f64,
    values: Vec<f32>,
}

/// The step's rows on one device.
struct Step<'a> {
    plan: &'a Plan,
    samples: &'a [Sample],
    padding: Padding,
    device: &'a Device,
}

impl Step<'_> {
    /// The gradient with micro-batches of `rows`, each a list of samples, padded to `multiple`.
    fn gradient(&self, model: &Decoder, micro: &[Vec<Vec<usize>>], multiple: usize) -> Gradient {
        let padding = Padding { multiple, ..self.padding };
        let objective = Sft { smoothing: self.plan.smoothing() };
        let batch = |rows: &Vec<Vec<usize>>| collate(self.samples, rows, padding, self.device);
        let batches: Vec<TokenBatch> = micro.iter().map(batch).collect();
        let units: usize = batches.iter().map(|it| it.n_targets).sum();
        let (mut grads, mut loss) = (GradientsAccumulator::new(), 0.0);
        for batch in &batches {
            let mean = objective.loss(model, batch).total.div_scalar(units.max(1) as f64);
            loss += f64::from(mean.clone().inner().into_scalar::<f32>());
            grads.accumulate(model, GradientsParams::from_grads(mean.backward(), model));
        }
        let grads = grads.grads();
        let mut values = Values(&grads, Vec::new());
        model.visit(&mut values);
        Gradient { loss, values: values.1 }
    }

    /// One micro-batch of a row a sample.
    fn whole(&self) -> Vec<Vec<Vec<usize>>> {
        vec![(0..self.samples.len()).map(|index| vec![index]).collect()]
    }
}

struct Values<'a>(&'a GradientsParams, Vec<f32>);

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1.extend(grad.into_data().iter::<f32>());
        }
    }
}

impl Invariance {
    /// Compares the gradient of the first step of `plan` on `device`: split into micro-batches,
    /// packed into one row, padded further, with blocks run again; and on `other` devices.
    ///
    /// Dropout and noise are left out: they differ from batch to batch on purpose. Adapters are
    /// moved from their start, where half of them have no gradient.
    ///
    /// # Errors
    /// [`RunError`] where the model or the rows cannot be used.
    pub fn measure(
        plan: &Plan,
        device: &Device,
        other: &[(String, Device)],
    ) -> Result<Self, RunError> {
        let plan = quiet(plan);
        plan.check_device(device)?;
        let multiple = length_multiple(device);
        let Prepared { model, text, dataset } = Prepared::of(&plan, multiple)?;
        let mut first = loader(&plan, &dataset)?;
        let chosen = first.next().unwrap_or_default().concat().concat();
        let rows: Vec<Sample> = chosen.iter().map(|&id| dataset.train[id].clone()).collect();
        let padding = Padding::new(&text.tokenizer, multiple);
        let decoder = |device: &Device| {
            let tracked = device.clone().autodiff();
            let (decoder, _) = model.watched_decoder(&plan, &tracked)?;
            Ok::<_, RunError>(plan.prepare(decoder)?.map(&mut Shift))
        };
        let plain = decoder(device)?.recomputing(Recompute::NONE);
        let inner = device.clone().inner();
        let step = Step { plan: &plan, samples: &rows, padding, device: &inner };
        let base = step.gradient(&plain, &step.whole(), padding.multiple);
        let mut deviations = step.ways(&plain, &base);
        for (name, device) in other {
            let inner = device.clone().inner();
            let step = Step { device: &inner, ..step };
            let there = step.gradient(&decoder(device)?, &step.whole(), length_multiple(device));
            deviations.push(deviation(&format!("computed on {name}"), &base, &there, 1e-3));
        }
        let targets = rows.iter().map(Sample::n_targets).sum();
        Ok(Self { rows: rows.len(), targets, loss: base.loss, deviations })
    }

    /// Whether all ways agree.
    pub fn passes(&self) -> bool {
        self.deviations.iter().all(Deviation::passes)
    }
}

impl Step<'_> {
    fn ways(&self, model: &Decoder, base: &Gradient) -> Vec<Deviation> {
        let n = self.samples.len();
        let rows = |range: std::ops::Range<usize>| range.map(|index| vec![index]).collect();
        let singles: Vec<_> = (0..n).map(|index| rows(index..index + 1)).collect();
        let mut ways = vec![
            ("one row a micro-batch", singles, self.padding.multiple),
            ("all rows packed into one", vec![vec![(0..n).collect()]], self.padding.multiple),
            ("padded by 48 tokens more", self.whole(), self.longer()),
        ];
        if n > 2 {
            let uneven = vec![rows(0..n / 3 + 1), rows(n / 3 + 1..n)];
            ways.insert(1, ("two uneven micro-batches", uneven, self.padding.multiple));
        }
        let limit = self.limit();
        let mut deviations: Vec<_> = ways
            .into_iter()
            .map(|(what, micro, multiple)| {
                deviation(what, base, &self.gradient(model, &micro, multiple), limit)
            })
            .collect();
        for (what, every) in [("all blocks run again", 1), ("every other block run again", 2)] {
            let again = model.clone().recomputing(Recompute { every, offload: false });
            let again = self.gradient(&again, &self.whole(), self.padding.multiple);
            deviations.push(deviation(what, base, &again, limit));
        }
        deviations
    }

    /// A multiple that pads the longest row by about 48 tokens.
    fn longer(&self) -> usize {
        let longest = self.samples.iter().map(|it| it.tokens.len()).max().unwrap_or(1);
        self.padding.predicting(longest) + 48
    }

    /// What rounding may do in the plan's number format.
    fn limit(&self) -> f64 {
        match self.plan.dtype() {
            burn::tensor::FloatDType::F32 => 2e-5,
            _ => 5e-2,
        }
    }
}

fn deviation(what: &str, base: &Gradient, other: &Gradient, limit: f64) -> Deviation {
    let largest = base.values.iter().fold(f32::MIN_POSITIVE, |most, it| most.max(it.abs()));
    let pairs = base.values.iter().zip(&other.values);
    let gap = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, nan_wins);
    let same = base.values.len() == other.values.len();
    Deviation {
        what: what.to_owned(),
        loss: other.loss - base.loss,
        gradient: if same { gap / f64::from(largest) } else { f64::INFINITY },
        limit,
    }
}

/// The larger of two; NaN if one is, where [`f64::max`] would drop it.
fn nan_wins(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The plan without what is random while training.
fn quiet(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.recipe.train.neftune_noise_alpha = None;
    if let Some(crate::recipe::Method::Lora(lora)) = &mut plan.recipe.method {
        lora.lora_dropout = 0.0;
    }
    plan
}

/// Moves trained numbers a little, the more the further they stand in their tensor.
struct Shift;

impl burn::module::ModuleMapper for Shift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let zero =
            |value: &Tensor<D>| value.clone().inner().abs().max().into_scalar::<f32>() == 0.0;
        if !param.is_require_grad() || !zero(&param.val()) {
            return param;
        }
        param.map(|old| {
            let (dims, device) = (old.dims(), old.device().inner());
            let n: usize = dims.iter().product();
            let wave: Vec<f32> = (0..n).map(|at| 0.02 * (at as f32 * 0.37).sin()).collect();
            let wave = Tensor::<1>::from_floats(wave.as_slice(), &device).reshape(dims);
            Tensor::from_inner(wave).require_grad()
        })
    }
}
