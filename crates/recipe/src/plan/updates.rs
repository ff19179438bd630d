//! The optimizer and the schedule of a plan.

use burn::module::Module;
use rekindle_train as train;
use rekindle_train::{
    Adafactor, AdamW, AdamW8bit, AdjustLearningRate, Decay, DecayForm, Lion, LoraPlus, Muon,
    OptimizerError, OptimizerMethod, ParamGroup, ParamGroups, PathPattern, Sgd,
};

use super::Plan;
use crate::error::RunError;
use crate::recipe::{self, AdjustLr, DecayType, GroupSection, MuonOptimizer, Problem, Span};

/// The module paths of the B matrices of adapters.
const ADAPTER_B: &str = r".*\.adapter\.[A-Za-z0-9]+\.b";

impl Plan {
    /// A fresh optimizer.
    ///
    /// # Errors
    /// [`RunError::Problems`] for a pattern that is no regular expression.
    pub fn optimizer(&self) -> Result<train::Optimizer, RunError> {
        let train = &self.recipe.train;
        let peak = self.recipe.learning_rate();
        let method = method(&train.optimizer, peak)?;
        let groups = train.groups.iter().enumerate();
        let groups = groups.map(|(index, it)| group(index, it, peak)).collect::<Result<_, _>>()?;
        let loraplus = match train.loraplus_lr_ratio {
            Some(ratio) => Some(LoraPlus { b_paths: adapter_b()?, ratio }),
            None => None,
        };
        Ok(train::Optimizer::new(method)
            .with_groups(ParamGroups { groups, loraplus })
            .with_offload(train.optimizer.offload()))
    }

    /// Checks that every group of the recipe has parameters of `policy`.
    ///
    /// # Errors
    /// [`RunError::Problems`] with the names of some parameters.
    pub fn check_groups<M: Module>(
        &self,
        optimizer: &train::Optimizer,
        policy: &M,
    ) -> Result<(), RunError> {
        optimizer.check(policy).map_err(|error| match error {
            OptimizerError::UnmatchedGroup { index, pattern, reason, parameters, total } => {
                let more = if total > parameters.len() { ", …" } else { "" };
                RunError::Problems(vec![Problem {
                    key: match_key(index),
                    found: format!("`{pattern}`, which matches {reason}"),
                    wanted: format!(
                        "a match of the whole of a name: `{}`{more}",
                        parameters.join("`, `")
                    ),
                }])
            }
            error @ OptimizerError::Pattern { .. } => problem("train.groups", &error),
        })
    }

    /// Checks that warm-up and fall of the learning rate fit into a run of `total_steps`.
    ///
    /// # Errors
    /// [`RunError::Problems`] with the longest that fits.
    pub fn check_steps(&self, total_steps: u64) -> Result<(), RunError> {
        let schedule = &self.recipe.train.schedule;
        let warmup = schedule.warmup().steps(total_steps);
        let (name, found, most) = match schedule {
            _ if warmup > total_steps => ("warmup_steps", warmup, total_steps),
            recipe::Schedule::Wsd(wsd) => {
                ("decay_steps", wsd.decay().steps(total_steps), total_steps - warmup)
            }
            _ => return Ok(()),
        };
        // A part of the run is rounded up, which may be one step too many.
        if found <= most || schedule_is_in_parts(schedule) {
            return Ok(());
        }
        Err(RunError::Problems(vec![Problem {
            key: format!("train.schedule.{}.{name}", schedule.name()),
            found: format!("`{found}`"),
            wanted: format!("at most `{most}`: the run has {total_steps} steps"),
        }]))
    }

    /// How the learning rate falls after the warm-up.
    pub(super) fn decay(&self, total_steps: u64) -> Decay {
        match &self.recipe.train.schedule {
            recipe::Schedule::Constant(_) => Decay::Constant,
            recipe::Schedule::Linear(_) => Decay::Linear,
            recipe::Schedule::Cosine(it) => Decay::Cosine { min_ratio: it.min_lr_ratio },
            recipe::Schedule::CosineWithRestarts(it) => {
                Decay::CosineWithRestarts { num_cycles: it.num_cycles }
            }
            recipe::Schedule::Polynomial(it) => Decay::Polynomial {
                power: it.power,
                end_ratio: it.lr_end / self.recipe.learning_rate(),
            },
            recipe::Schedule::InverseSqrt(it) => Decay::InverseSqrt { timescale: it.timescale },
            recipe::Schedule::Wsd(it) => Decay::WarmupStableDecay {
                decay_steps: it.decay().steps(total_steps),
                form: match it.decay_type {
                    DecayType::Linear => DecayForm::Linear,
                    DecayType::Cosine => DecayForm::Cosine,
                    DecayType::OneMinusSqrt => DecayForm::OneMinusSqrt,
                },
                min_ratio: it.min_lr_ratio,
            },
        }
    }
}

fn schedule_is_in_parts(schedule: &recipe::Schedule) -> bool {
    let decay = match schedule {
        recipe::Schedule::Wsd(wsd) => wsd.decay(),
        _ => Span::Ratio(0.0),
    };
    matches!((schedule.warmup(), decay), (Span::Ratio(_) | Span::Steps(0), Span::Ratio(_)))
}

/// The key of a group's pattern; groups are counted from 1.
fn match_key(index: usize) -> String {
    format!("train.groups.{}.match", index + 1)
}

fn method(optimizer: &recipe::Optimizer, peak: f64) -> Result<OptimizerMethod, RunError> {
    Ok(match optimizer {
        recipe::Optimizer::AdamW(it) => AdamW {
            beta1: it.beta1,
            beta2: it.beta2,
            epsilon: it.epsilon,
            weight_decay: it.weight_decay,
        }
        .into(),
        recipe::Optimizer::AdamW8bit(it) => AdamW8bit {
            adamw: AdamW {
                beta1: it.beta1,
                beta2: it.beta2,
                epsilon: it.epsilon,
                weight_decay: it.weight_decay,
            },
            min_8bit_size: it.min_8bit_size,
        }
        .into(),
        recipe::Optimizer::Sgd(it) => Sgd {
            momentum: it.momentum,
            dampening: it.dampening,
            nesterov: it.nesterov,
            weight_decay: it.weight_decay,
        }
        .into(),
        recipe::Optimizer::Lion(it) => {
            Lion { beta1: it.beta1, beta2: it.beta2, weight_decay: it.weight_decay }.into()
        }
        recipe::Optimizer::Adafactor(it) => Adafactor {
            epsilon1: it.epsilon1,
            epsilon2: it.epsilon2.unwrap_or_else(|| Adafactor::default().epsilon2),
            clip_threshold: it.clip_threshold,
            decay_rate: it.decay_rate,
            beta1: it.beta1,
            weight_decay: it.weight_decay,
            scale_parameter: it.scale_parameter,
            relative_step: it.relative_step,
            warmup_init: it.warmup_init,
        }
        .into(),
        recipe::Optimizer::Muon(it) => muon(it, peak)?.into(),
    })
}

fn muon(muon: &MuonOptimizer, peak: f64) -> Result<Muon, RunError> {
    let adamw_paths = PathPattern::new(&muon.adamw_match)
        .map_err(|error| problem("train.optimizer.muon.adamw_match", &error))?;
    Ok(Muon {
        momentum: muon.momentum,
        nesterov: muon.nesterov,
        weight_decay: muon.weight_decay,
        ns_steps: muon.ns_steps,
        adjust_lr: match muon.adjust_lr {
            AdjustLr::Original => AdjustLearningRate::Original,
            AdjustLr::MatchRmsAdamw => AdjustLearningRate::MatchRmsAdamW,
            AdjustLr::SpectralUnclamped => AdjustLearningRate::SpectralUnclamped,
        },
        adamw: AdamW {
            beta1: muon.adamw_beta1,
            beta2: muon.adamw_beta2,
            epsilon: muon.adamw_epsilon,
            weight_decay: muon.adamw_weight_decay,
        },
        adamw_lr_factor: muon.adamw_learning_rate.map_or(1.0, |rate| rate / peak),
        adamw_paths: Some(adamw_paths),
    })
}

fn group(index: usize, group: &GroupSection, peak: f64) -> Result<ParamGroup, RunError> {
    let pattern =
        PathPattern::new(&group.pattern).map_err(|error| problem(&match_key(index), &error))?;
    let lr_factor = group.learning_rate.map(|rate| rate / peak);
    Ok(ParamGroup { pattern, lr_factor, weight_decay: group.weight_decay })
}

fn adapter_b() -> Result<PathPattern, RunError> {
    PathPattern::new(ADAPTER_B).map_err(|error| problem("train.loraplus_lr_ratio", &error))
}

fn problem(key: &str, error: &OptimizerError) -> RunError {
    RunError::Problems(vec![Problem {
        key: key.to_owned(),
        found: error.to_string(),
        wanted: "a regular expression".to_owned(),
    }])
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Tensor;

    use super::*;
    use crate::recipe::Recipe;

    /// Names such as those of a model with an adapter.
    #[derive(Module, Debug)]
    struct Toy {
        layer: Layer,
        norm: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    struct Layer {
        adapter: Adapter,
    }

    #[derive(Module, Debug)]
    enum Adapter {
        Lora(Matrices),
    }

    #[derive(Module, Debug)]
    struct Matrices {
        a: Param<Tensor<2>>,
        b: Param<Tensor<2>>,
    }

    fn toy() -> Toy {
        let device = rekindle_testkit::device().autodiff();
        let matrix = || Param::from_tensor(Tensor::<2>::ones([2, 2], &device));
        let adapter = Adapter::Lora(Matrices { a: matrix(), b: matrix() });
        Toy { layer: Layer { adapter }, norm: Param::from_tensor(Tensor::ones([2], &device)) }
    }

    fn plan(train: &str) -> Plan {
        let text = format!("model = \"m\"\ndata.train = \"t\"\nmethod.lora = {{}}\n{train}");
        let recipe = Recipe::parse(&text, "r.toml").unwrap_or_else(|error| panic!("{error}"));
        Plan::resolve(recipe, "r").unwrap()
    }

    /// The first values of A, B and the norm after one step of plain descent along ones.
    fn after_a_step(train: &str) -> [f32; 3] {
        let toy = toy();
        let mut optimizer = plan(train).optimizer().unwrap();
        let Adapter::Lora(Matrices { a, b }) = &toy.layer.adapter;
        let sum = a.val().sum() + b.val().sum() + toy.norm.val().sum();
        let grads = burn::optim::GradientsParams::from_grads(sum.backward(), &toy);
        let toy = optimizer.step(0.1, toy, grads);
        let Adapter::Lora(Matrices { a, b }) = toy.layer.adapter;
        let first = |values: Vec<f32>| values[0];
        let data = [a.val().into_data(), b.val().into_data(), toy.norm.val().into_data()];
        data.map(|data| first(data.try_to_vec().unwrap()))
    }

    #[test]
    fn groups_and_loraplus_reach_the_parameters_they_name() {
        let sgd = "[train]\nlearning_rate = 0.1\n[train.optimizer.sgd]\n";
        rekindle_testkit::assert_close(&after_a_step(sgd), &[0.9, 0.9, 0.9], 1e-6, 0.0);
        let plus = sgd.replace("0.1", "0.1\nloraplus_lr_ratio = 4");
        rekindle_testkit::assert_close(&after_a_step(&plus), &[0.9, 0.6, 0.6], 1e-6, 0.0);
        let group = "[[train.groups]]\nmatch = \"norm\"\nlearning_rate = 0.05\n";
        let found = after_a_step(&format!("{plus}{group}"));
        rekindle_testkit::assert_close(&found, &[0.9, 0.6, 0.95], 1e-6, 0.0);
        let decay = sgd.to_owned() + "weight_decay = 0.5";
        rekindle_testkit::assert_close(&after_a_step(&decay), &[0.85, 0.85, 0.9], 1e-6, 0.0);
    }

    #[test]
    fn a_group_without_parameters_is_an_error_that_lists_some() {
        let plan = plan("[[train.groups]]\nmatch = \"norms\"\nweight_decay = 0.0");
        let optimizer = plan.optimizer().unwrap();
        let error = plan.check_groups(&optimizer, &toy()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let wanted = "`train.groups.1.match` is `norms`, which matches no parameter, wanted a \
                      match of the whole of a name: `layer.adapter.Lora.a`, \
                      `layer.adapter.Lora.b`, `norm`";
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn every_optimizer_of_a_recipe_is_built_with_its_settings() {
        for name in ["adamw", "adamw_8bit", "sgd", "lion", "adafactor", "muon"] {
            let plan =
                plan(&format!("[train.optimizer.{name}]\nweight_decay = 0.25\noffload = true"));
            let optimizer = plan.optimizer().unwrap();
            assert_eq!(optimizer.method().name(), name);
            assert!(optimizer.offload());
            assert!(format!("{:?}", optimizer.method()).contains("weight_decay: 0.25"), "{name}");
        }
        let plan = plan(
            "[train]\nlearning_rate = 0.02\n[train.optimizer.muon]\nadamw_learning_rate = 0.01",
        );
        let OptimizerMethod::Muon(muon) = plan.optimizer().unwrap().method().clone() else {
            panic!("wanted muon")
        };
        assert_eq!(muon.adamw_lr_factor, 0.5);
        assert!(muon.adamw_paths.unwrap().matches("model.embed_tokens.weight"));
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_refused_once_its_length_is_known() {
        let linear = plan("[train.schedule.linear]\nwarmup_steps = 10");
        assert!(linear.check_steps(10).is_ok());
        let error = linear.check_steps(9).unwrap_err().to_string();
        let wanted =
            "`train.schedule.linear.warmup_steps` is `10`, wanted at most `9`: the run has 9 steps";
        assert_eq!(error, wanted);
        let wsd = plan("[train.schedule.wsd]\nwarmup_steps = 3\ndecay_steps = 7");
        assert!(wsd.check_steps(10).is_ok());
        assert!(wsd.check_steps(9).unwrap_err().to_string().contains("at most `6`"));
        assert!(plan("[train.schedule.wsd]\nwarmup_ratio = 0.9").check_steps(1).is_ok());
    }
}
